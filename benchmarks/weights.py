"""The base model in every format that a peer reads, all converted from the one file (Q4_1) that is at hand."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from benchmarks.places import CACHE, ROOT, packaged_gguf

_FILE_TYPES = {
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "BF16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def hf_folder() -> Path:
    """bfloat16 safetensors with the tokenizer."""
    folder = CACHE / "SmolLM2-135M-Instruct"
    if not (folder / "tokenizer_config.json").exists():
        script = ROOT / "tests" / "smollm2_folder.py"
        subprocess.run([sys.executable, "-P", script, folder, "bfloat16"], check=True, capture_output=True)
    return folder


def gguf_file(kind: str) -> Path:
    """`kind`: Q4_1 (the original), F16, BF16 or Q8_0."""
    if kind == "Q4_1":
        return packaged_gguf()
    file = CACHE / f"SmolLM2-135M-Instruct.{kind}.gguf"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _convert(GGUFReader(packaged_gguf()), file, *_FILE_TYPES[kind])
    return file


def _convert(source: GGUFReader, target: Path, dtype: GGMLQuantizationType, file_type: LlamaFileType) -> None:
    draft = target.with_suffix(".draft")
    writer = GGUFWriter(draft, "llama")
    _copy_facts(source, writer)
    writer.add_file_type(file_type)
    for tensor in source.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, quantize(values, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    draft.rename(target)


def _copy_facts(source: GGUFReader, writer: GGUFWriter) -> None:
    """Everything but what the writer sets by itself."""
    for name, fact in source.fields.items():
        if name.startswith("GGUF.") or name in (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE):
            continue
        inner = fact.types[-1] if fact.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, fact.contents(), fact.types[0], inner)
