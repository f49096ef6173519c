"""The names of an adapter's tensors, read as PEFT means them, whatever wrapped the model when they were saved."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from loradock.types.errors import AdapterRefused

SERVED_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EXPECTED = "base_model.model.model."
"""The prefix that PEFT writes in front of `layers.0.…` for the served model families."""
_AFTERWARDS = frozenset({"_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_WRAPPERS = _AFTERWARDS | {"_orig_mod"}
"""FSDP, activation checkpointing and torch.compile put these into names; they mean nothing. The first two wrap what
PEFT has made already, so it never saw their names."""
_LORA = re.compile(
    r"(?P<prefix>(?:[\w-]+\.)*?)(?P<path>layers\.(?P<layer>0|[1-9]\d{0,3})\.(?:self_attn|mlp)\.(?P<module>\w+))"
    r"\.lora_(?P<side>[AB])(?:\.(?P<adapter>[\w-]+))?\.weight"
)
_PEFT = re.compile(rf"^base_model\.(?:(?:{'|'.join(sorted(_WRAPPERS))})\.)*model\.")
_ELSEWHERE = re.compile(r"vision|visual|image|audio|speech|encoder|\bmtp\b|draft|talker", re.IGNORECASE)
_TABLE = re.compile(r"(?:[\w-]+\.)*?(?P<table>embed_tokens|lm_head)(?:\.base_layer)?\.weight")


@dataclass(frozen=True)
class LoraName:
    """`path` is where the projection lies in the base, `called` what PEFT may have called it in training: a wrapper may
    have come before or afterwards, and a prefix may have been lost."""

    name: str
    path: str
    called: tuple[str, ...]
    layer: int
    module: str
    side: str
    prefix: str
    adapter: str | None


def read_lora_name(name: str) -> LoraName | None:
    """None for what is not a LoRA matrix of a projection that is served."""
    match = _LORA.fullmatch(_unwrapped(name))
    if match is None or match["module"] not in SERVED_MODULES:
        return None
    path, module = f"model.{match['path']}", name.partition(".lora_")[0]
    while module.partition(".")[0] in _WRAPPERS:
        module = module.partition(".")[2]
    module = _without(_AFTERWARDS, _PEFT.sub("", module))
    return LoraName(
        name=name,
        path=path,
        called=tuple(dict.fromkeys([module, _unwrapped(module), path])),
        layer=int(match["layer"]),
        module=match["module"],
        side=match["side"],
        prefix=match["prefix"],
        adapter=match["adapter"],
    )


def table_name(name: str) -> str | None:
    """`embed_tokens` or `lm_head` for a whole table beside the adapter, None for anything else."""
    match = _TABLE.fullmatch(_unwrapped(name))
    return match["table"] if match else None


def check_one_reading(names: Iterable[LoraName]) -> list[str]:
    """Remarks on how the names were read. Raises AdapterRefused where that could be done in more than one way, or where
    they are of another part of the model."""
    names = list(names)
    remarks = []
    if any(_unwrapped(name.name) != name.name for name in names):
        remarks.append("_orig_mod and the like in tensor names (torch.compile, FSDP) were left out")
    prefixes = sorted({name.prefix for name in names})
    _check_adapter_names(names)
    if prefixes == [EXPECTED]:
        return remarks
    found = " and ".join(repr(prefix) for prefix in prefixes[:4])
    elsewhere = next((prefix for prefix in prefixes if _ELSEWHERE.search(prefix)), None)
    twice = len({(name.path, name.side) for name in names}) < len(names)
    if elsewhere is not None or (twice and len(prefixes) > 1):
        why = f"{elsewhere!r} is another part of the model" if elsewhere else "they can be read in more than one way"
        raise AdapterRefused(
            f"tensor names begin with the wrong prefix: {found} before 'layers.…', where {EXPECTED!r} is expected, and"
            f" {why}; rename the tensors, or save the adapter with PEFT's save_pretrained"
        )
    return [*remarks, f"tensor names begin with {found}; read as {EXPECTED!r}"]


def wrong_prefix(names: Iterable[str]) -> str:
    """Return for an adapter that does not fit whether its names may be why; empty where they are as expected."""
    prefix = next((read.prefix for name in names if (read := read_lora_name(name))), EXPECTED)
    return "" if prefix == EXPECTED else f" (its tensor names begin with {prefix!r}, where {EXPECTED!r} is expected)"


def _check_adapter_names(names: list[LoraName]) -> None:
    adapters = sorted({name.adapter or "" for name in names} - {"", "default"})
    if len(adapters) > 1:
        raise AdapterRefused(
            f"the file holds several adapters, {', '.join(adapters[:8])}: save each into a folder of its own"
            " (PEFT: save_pretrained(…, selected_adapters=[…])) and upload one"
        )


def _unwrapped(name: str) -> str:
    return _without(_WRAPPERS, name)


def _without(wrappers: frozenset[str], name: str) -> str:
    if "_orig_mod" not in name and "_wrapped_module" not in name:
        return name
    return ".".join(part for part in name.split(".") if part not in wrappers)
