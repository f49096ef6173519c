"""Decides which decoder serves a base model here."""

from pathlib import Path

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.engine.adapters.lora import AdapterReader
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.structures import Format
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.lanes import Decoder, Lanes
from loradock.engine.models.native_decoder import NativeDecoder
from loradock.engine.models.native_lanes import NativeLanes
from loradock.engine.models.packed_files import packed_model
from loradock.engine.models.packed_layout import fits
from loradock.engine.models.weights import tensor_reader
from loradock.types.errors import BadRequest
from loradock.types.extras import require_torch

_FORMATS = {None: Format.CODED, 8: Format.INT8, 4: Format.INT4}


def load_model(
    path: Path, dtype: Dtype, device: str = "cpu", *, kernels: bool | None = None, bits: int | None = None
) -> Decoder:
    """`bits` 8 or 4: keep the weights in so few. `kernels` None: on a CPU, where they fit the model.

    Raises BadRequest when the checkpoint is incomplete or of an unsupported kind, or cannot be kept in so few bits, and
    NotInstalled where it takes torch, which is not there.
    """
    architecture = read_architecture(path)
    format_ = Format.FLOAT32 if dtype is Dtype.FLOAT32 else _FORMATS[bits]
    fitting = device == "cpu" and fits(architecture, format_)
    if bits is not None and (not fitting or dtype is Dtype.FLOAT32):
        raise BadRequest(
            "--quantization is for CPUs, for --dtype bfloat16, and for models whose layers' sizes are multiples of 32"
        )
    if fitting and kernels is not False:
        return _native(path, architecture, format_)
    require_torch()
    from loradock.engine.torch_models.decoder import TorchDecoder

    return TorchDecoder(architecture, tensor_reader(path, architecture), dtype, device)


def _native(path: Path, architecture: Architecture, format_: Format) -> NativeDecoder:
    read = tensor_reader(path, architecture)
    model = NativeDecoder(architecture, packed_model(path, architecture, read, format_))
    if path.suffix == ".gguf":
        open_gguf(path).release()
    return model


def lanes_of(model: Decoder, cache: KVCache, threads: int) -> Lanes:
    """The way a decoder's steps are split."""
    if isinstance(model, NativeDecoder):
        return NativeLanes(model, cache, threads)
    from loradock.engine.torch_models.decoder import TorchDecoder
    from loradock.engine.torch_models.lanes import TorchLanes

    if not isinstance(model, TorchDecoder):
        raise TypeError(f"{type(model).__name__} is no decoder")
    return TorchLanes(model, cache)


def adapter_reader(model: Decoder, *, max_rank: int | None = None) -> AdapterReader:
    """What reads adapters for this decoder; `max_rank`: those of larger ranks are refused."""
    if model.kernels:
        return AdapterReader(model.architecture, model.dtype, max_rank=max_rank)
    from loradock.engine.torch_models.lora import TorchAdapterReader

    return TorchAdapterReader(model.architecture, model.dtype, model.device, max_rank=max_rank)
