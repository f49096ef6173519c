"""Decides which decoder serves a base model here."""

import logging
from pathlib import Path

import torch

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.engine.kernels.compiled.packing import Unpackable
from loradock.engine.models.compiled_decoder import CompiledDecoder, runs_compiled
from loradock.engine.models.model import Decoder
from loradock.engine.models.weights import TensorReader, tensor_reader
from loradock.types.errors import BadRequest

log = logging.getLogger(__name__)
AnyDecoder = Decoder | CompiledDecoder


def load_model(
    path: Path, dtype: torch.dtype, device: str = "cpu", *, kernels: bool | None = None, bits: int | None = None
) -> AnyDecoder:
    """`bits` 8 or 4: keep the weights in so few. `kernels` None: on a CPU.

    Raises BadRequest when the checkpoint is incomplete or of an unsupported kind, or cannot be kept in so few bits.
    """
    architecture = read_architecture(path)
    if kernels is None:
        kernels = torch.device(device).type == "cpu" and architecture.head_dim % 16 == 0
    compiled = kernels and dtype is torch.bfloat16 and runs_compiled(architecture, bits or 16)
    if bits is not None and not compiled:
        raise BadRequest(
            "--quantization is for CPUs, for --dtype bfloat16, and for models whose layers' sizes are multiples of 32"
        )
    read = tensor_reader(path, architecture, torch.float32 if bits else dtype)
    model: AnyDecoder
    if compiled:
        model = _compiled(architecture, read, bits)
    else:
        model = Decoder(architecture, read, dtype, device, kernels=kernels)
    if path.suffix == ".gguf":
        open_gguf(path).release()
    return model


def _compiled(architecture: Architecture, read: TensorReader, bits: int | None) -> AnyDecoder:
    try:
        return CompiledDecoder(architecture, read, bits or 16)
    except Unpackable as reason:
        log.warning("%s: served by PyTorch, which is slower", reason)
        return Decoder(architecture, read, torch.bfloat16, kernels=True)
