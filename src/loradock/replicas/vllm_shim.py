"""Runs vLLM's OpenAI server as a replica: mends its CPU kernels, picks a port, announces it, hands over.

Run as a file by the interpreter of the environment that has vLLM, so it imports nothing of Loradock:

    python vllm_shim.py --announce FOLDER/announce.json <arguments of vllm.entrypoints.openai.api_server>
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

_SERVER = "vllm.entrypoints.openai.api_server"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _announce(file: Path, port: int) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "port": port}))
    draft.replace(file)


def _keep_base_rows_clean() -> None:
    """Keep adapters out of base rows. In vLLM 0.32 on a CPU a request for the base model that shares a batch with
    adapters is answered by one of them: -1, its "no adapter", is used as an index and finds the last slot
    (vllm/lora/ops/torch_ops/lora_ops.py)."""
    from vllm.platforms import current_platform  # type: ignore[import-not-found]

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops  # type: ignore[import-not-found]
    from vllm.lora.punica_wrapper import punica_cpu  # type: ignore[import-not-found]

    shrink = lora_ops.bgmv_shrink

    def clean(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, indices, scaling)
        output.masked_fill_((indices < 0).unsqueeze(1), 0)

    lora_ops.bgmv_shrink = punica_cpu.bgmv_shrink = clean


def _take_arguments() -> None:
    """Announce the port before anything slow, and leave vLLM the arguments that are its own."""
    _, flag, announcement, *rest = sys.argv
    if flag != "--announce":
        sys.exit("the first argument must be --announce")
    port = _free_port()
    _announce(Path(announcement), port)
    sys.argv = [_SERVER, "--host", "127.0.0.1", "--port", str(port), *rest]
    # This file's folder stands first on the path and would offer its neighbours as top-level modules.
    sys.path.pop(0)


if __name__ == "__main__":
    _take_arguments()

# In every process: those that vLLM spawns to compute import this file before anything else.
_keep_base_rows_clean()

if __name__ == "__main__":
    runpy.run_module(_SERVER, run_name="__main__")
