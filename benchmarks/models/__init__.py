"""The models that are measured: SmolLM2-135M as it is, and larger shapes with random weights, in all formats."""

from benchmarks.models.formats import gguf_file, hf_folder
from benchmarks.models.shapes import MODELS, SMOLLM2, Model

__all__ = ["MODELS", "SMOLLM2", "Model", "gguf_file", "hf_folder"]
