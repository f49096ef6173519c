"""Ids and names: how they are made, what they may contain, how a combined id is read.

A name never becomes a path and never contains `:`, which separates the halves of a combined id.
"""

import re
import secrets
import uuid

from loradock.types.errors import BadCombinedId, BadRequest

_SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
_BASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_LORA_SUFFIX = "-lora"
_MIRRORS = {
    *("unsloth", "mlx-community", "lmstudio-community", "thebloke", "bartowski", "redhatai", "neuralmagic"),
    *("hugging-quants", "casperhansen", "techxgenus", "solidrust", "modelcloud", "isotr0py", "quanttrio", "nvidia"),
    *("maziyarpanahi", "mradermacher", "quantfactory", "nousresearch", "ista-daslab", "nm-testing"),
}
"""The accounts that publish copies of other people's models under their names, mostly quantised."""
_KEPT_IN = (
    r"[-_.](?:bnb|[34568]-?bit|int[48]|gptq|awq|exl[23]|hqq|aqlm|fp8|nf4|mxfp[48]|nvfp4|bf16|fp16|w\d+a\d+|q\d(_\w+)*)"
)
_FURTHER = r"[-_.](?:unsloth|mlx|gguf|quantized|dynamic|block|marlin|dwq|g\d+)"
_QUANTISED = re.compile(rf"({_FURTHER})*({_KEPT_IN}({_FURTHER})*)+$|[-_.](mlx|gguf)$")
"""The endings of names of copies that keep weights in fewer bits."""


def new_id(prefix: str) -> str:
    """A fresh id such as `ml_3f2a…` (96 random bits)."""
    return f"{prefix}_{secrets.token_hex(12)}"


def new_endpoint_id() -> str:
    return f"endpoint-{uuid.uuid4()}"


def new_job_id() -> str:
    return f"job-{uuid.uuid4()}"


def endpoint_name(account: str, base_model: str) -> str:
    """`<account>/<base model>-<8 hex>`."""
    return f"{account}/{base_model}-{secrets.token_hex(4)}"


def adapter_name(account: str, short_name: str) -> str:
    """`<account>/<short name>`; the short name may already carry the account.

    Raises BadRequest for anything else.
    """
    short = short_name.removeprefix(f"{account}/")
    if not _SHORT_NAME.fullmatch(short):
        raise BadRequest(
            f"model_name {short_name!r} is not usable: give 1 to 96 letters, digits, '.', '_' or '-', starting"
            f" with a letter or digit (your account {account!r} is put in front for you)",
            param="model_name",
        )
    return f"{account}/{short}"


def check_slug(slug: str) -> str:
    """An account name. Raises BadRequest."""
    if not _SLUG.fullmatch(slug):
        raise BadRequest(f"account {slug!r} is not usable: give 1 to 39 lower-case letters, digits or '-'")
    return slug


def is_base_name(name: str) -> bool:
    """Whether `name` looks like `Org/Model` or `Model`."""
    return bool(_BASE_NAME.fullmatch(name)) and ".." not in name


def without_lora_suffix(model: str) -> str:
    """`Org/Model-Lora` → `Org/Model`: the hosted original marks its LoRA-capable variants this way."""
    return model[: -len(_LORA_SUFFIX)] if model.lower().endswith(_LORA_SUFFIX) else model


def same_base_model(one: str, other: str) -> bool:
    """Whether two names mean weights that an adapter fits alike: the same model, or a known copy of it, such as
    `unsloth/Model-bnb-4bit` of `Org/Model`."""
    one, other = (without_lora_suffix(name).lower() for name in (one, other))
    if one == other:
        return True
    (org, name), (other_org, other_name) = (_unquantised(name) for name in (one, other))
    return name == other_name and bool(org and other_org) and (org == other_org or bool({org, other_org} & _MIRRORS))


def _unquantised(name: str) -> tuple[str, str]:
    """Organization and model without what says how its weights are kept."""
    org, _, model = name.rpartition("/")
    return org, _QUANTISED.sub("", model).removeprefix("meta-").removesuffix("-hf")


def combined_id(endpoint: str, adapter: str) -> str:
    return f"{endpoint}:{adapter}"


def split_combined_id(model_id: str) -> tuple[str, str]:
    """(endpoint name, adapter model name). Raises BadCombinedId unless exactly one `:` parts two non-empty halves."""
    head, separator, tail = model_id.partition(":")
    if not (head and separator and tail) or ":" in tail:
        raise BadCombinedId(param="model_id")
    return head, tail
