"""The engine's command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from loradock.types.enums import Quantization
from loradock.types.errors import BadRequest

_OF_THE_SERVER = frozenset(
    (
        *("--model", "--served-model-name", "--host", "--port", "--announce", "--quantization", "--threads"),
        *("--max-loras", "--max-cpu-loras", "--max-lora-rank", "--disable-lora"),
    )
)
"""The flags that whoever starts engines sets for each of them."""


@dataclass(frozen=True)
class EngineOptions:
    """`max_model_len`, `kv_cache_gib`, `lora_ram_gib`, `threads` None: chosen from the model and the machine."""

    model: Path
    served_model_name: list[str]
    host: str
    port: int
    announce: Path | None
    dtype: str
    device: str
    quantization: str | None
    max_loras: int
    max_cpu_loras: int
    lora_ram_gib: float | None
    max_lora_rank: int
    disable_lora: bool
    max_model_len: int | None
    max_num_seqs: int
    max_waiting: int
    max_step_tokens: int
    speculative_tokens: int
    kv_cache_gib: float | None
    kv_cache_dtype: str
    prefix_cache_disk_gib: float
    threads: int | None


def read_options(arguments: list[str] | None) -> EngineOptions:
    """Exits with a usage message on a wrong command line."""
    return EngineOptions(**vars(parser().parse_args(arguments)))


def check_further(arguments: Sequence[str]) -> None:
    """Raises BadRequest unless an engine can be started with these besides what the server tells it."""
    taken = sorted(_OF_THE_SERVER & {argument.partition("=")[0] for argument in arguments})
    if taken:
        raise BadRequest(f"--engine-args: {taken[0]} is set by the server; leave it out")
    parser(_Raising).parse_args(["--model", "", *arguments])


class _Raising(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadRequest(f"--engine-args: {message} (see loradock engine --help)")


def parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    p = kind(prog="loradock engine", description="Serve one base model and its LoRA adapters.", allow_abbrev=False)
    p.add_argument("--model", type=Path, required=True, help="Hugging Face folder or .gguf file")
    p.add_argument("--served-model-name", nargs="+", default=[], help="names that mean the base model")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0, help="0: any free port, see --announce")
    p.add_argument("--announce", type=Path, help="file that gets {pid, port} as JSON")
    p.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    p.add_argument("--device", default="cpu", help="cpu, or a device of PyTorch (loradock[torch])")
    p.add_argument(
        "--quantization",
        choices=tuple(Quantization),
        help="keep the weights in 4 or 8 bits: faster, half of the memory or less, a little less exact",
    )
    p.add_argument("--max-loras", type=_positive, default=32, help="adapters that take part in one step")
    p.add_argument("--max-cpu-loras", type=_positive, default=256, help="adapters in memory; others stay on disk")
    p.add_argument("--lora-ram-gib", type=float, help="memory for adapters; default: 2, or a quarter of what is free")
    p.add_argument("--max-lora-rank", type=_positive, default=64)
    p.add_argument("--disable-lora", action="store_true")
    p.add_argument(
        "--max-model-len",
        type=_positive,
        help="context in tokens; default: the model's own, as far as the cache has room",
    )
    p.add_argument("--max-num-seqs", type=_positive, default=64, help="sequences generated at a time")
    p.add_argument(
        "--max-waiting",
        type=_positive,
        default=1024,
        help="sequences that may wait; more get a 503, but for some of an adapter with nothing under way",
    )
    p.add_argument("--max-step-tokens", type=_positive, default=256, help="tokens computed per step")
    p.add_argument(
        "--speculative-tokens",
        type=_not_negative,
        default=7,
        help="tokens of a sequence that may be tried at a time because they followed the same ones before; 0: none",
    )
    p.add_argument("--kv-cache-gib", type=float, help="default: 2, or half of what weights leave of the memory")
    p.add_argument(
        "--kv-cache-dtype",
        choices=("auto", "int8"),
        default="auto",
        help="int8: keys and values in 8 bits, half of the memory for a token; auto: those of --dtype",
    )
    p.add_argument(
        "--prefix-cache-disk-gib",
        type=float,
        default=0,
        help="room on disk for keys and values of prompts that have to leave memory; 0: they are computed again",
    )
    p.add_argument("--threads", type=_positive, help="compute threads; default: one per core that this process may use")
    return p


def _positive(text: str) -> int:
    return _at_least(1, text)


def _not_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}")
    return value
