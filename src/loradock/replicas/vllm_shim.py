"""Runs vLLM's OpenAI server as a replica: picks a port, announces it, hands over.

Run as a file by the interpreter of the environment that has vLLM, so it imports nothing of Loradock:

    python vllm_shim.py --announce FOLDER/announce.json <arguments of vllm.entrypoints.openai.api_server>
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path

_SERVER = "vllm.entrypoints.openai.api_server"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _announce(file: Path, port: int) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "port": port}))
    draft.replace(file)


# The guard matters: vLLM's own processes may be spawned, which imports this file again.
if __name__ == "__main__":
    _, flag, announcement, *rest = sys.argv
    if flag != "--announce":
        sys.exit("the first argument must be --announce")
    own_port = _free_port()
    _announce(Path(announcement), own_port)
    sys.argv = [_SERVER, "--host", "127.0.0.1", "--port", str(own_port), *rest]
    # This file's folder stands first on the path and would offer its neighbours as top-level modules.
    sys.path.pop(0)
    runpy.run_module(_SERVER, run_name="__main__")
