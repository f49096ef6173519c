"""Reads what a decoder checkpoint says about its own shape, without loading a weight."""

import json
from pathlib import Path
from typing import Any

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.gguf.gguf_metadata import read_gguf_architecture
from loradock.types.errors import BadRequest

FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, OSError)
"""The errors of values that are none of their key's, and of files that may not be read."""


def read_architecture(path: Path) -> Architecture:
    """The architecture of a Hugging Face folder or a GGUF file. Raises BadRequest naming what is not served, or cannot
    be read: others are looked for beside it."""
    config = path / "config.json"
    gguf = path.suffix == ".gguf"
    if not (gguf or config.is_file()):
        raise BadRequest(f"{path.name} is not a base model: it has neither config.json nor the .gguf ending")
    try:
        return read_gguf_architecture(path) if gguf else from_config(json.loads(config.read_text()))
    except _UNREADABLE as error:
        what = path.name if gguf else f"the config.json of {path.name}"
        # An OSError's own text has the whole path.
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise BadRequest(f"{what} cannot be read: {reason}") from error


def from_config(config: dict[str, Any]) -> Architecture:
    """The architecture in a transformers `config.json` (4.x and 5.x spellings)."""
    family = _family(config)
    rope = config.get("rope_parameters") or {}
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    _check_activation(config)
    if (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise BadRequest("unsupported partial_rotary_factor: the engine rotates whole heads")
    return Architecture(
        family=family,
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        rope_scaling=_rope_scaling(config.get("rope_scaling") or rope),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        max_positions=int(config.get("max_position_embeddings", 2048)),
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2" or bool(config.get("attention_bias", False)),
        output_bias=family != "qwen2" and bool(config.get("attention_bias", False)),
        qk_norm=family == "qwen3",
        sliding_window=_sliding_window(config, family),
        name=config.get("_name_or_path"),
    )


def _family(config: dict[str, Any]) -> str:
    names = config.get("architectures") or []
    family = next((FAMILIES[name] for name in names if name in FAMILIES), None)
    if family is None:
        known = ", ".join(FAMILIES)
        raise BadRequest(f"unsupported architecture {', '.join(names) or 'unknown'} (supported: {known})")
    if config.get("quantization_config"):
        raise BadRequest("quantised Hugging Face checkpoints are not served; use the 16-bit weights or a GGUF file")
    return family


def _check_activation(config: dict[str, Any]) -> None:
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise BadRequest(f"unsupported activation {config['hidden_act']!r} (supported: silu)")
    if config.get("mlp_bias"):
        raise BadRequest("unsupported mlp_bias: the engine serves decoders whose MLP has no bias")


def _rope_scaling(scaling: dict[str, Any] | None) -> dict[str, Any] | None:
    kind = (scaling or {}).get("rope_type") or (scaling or {}).get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        raise BadRequest(f"unsupported rope scaling {kind!r} (supported: default, linear, llama3)")
    return dict(scaling or {}, rope_type=kind)


def _sliding_window(config: dict[str, Any], family: str) -> int | None:
    """The window of every layer, None where none has one that matters. Raises BadRequest when the layers differ."""
    window = config.get("sliding_window")
    if not window or window >= int(config.get("max_position_embeddings", 2048)):
        return None
    kinds = _layer_kinds(config, family)
    if len(kinds) > 1:
        raise BadRequest(
            f"unsupported attention: layers of kinds {' and '.join(sorted(kinds))} (use_sliding_window,"
            " max_window_layers, layer_types); the engine serves one kind in all layers"
        )
    return int(window) if kinds == {"sliding_attention"} else None


def _layer_kinds(config: dict[str, Any], family: str) -> set[str]:
    """Return the kinds of layers as transformers reads them: Mistral's window is everywhere, Qwen's in the layers from
    max_window_layers on."""
    if family == "mistral":
        return {"sliding_attention"}
    if not (family.startswith("qwen") and config.get("use_sliding_window")):
        return {"full_attention"}
    full = min(int(config.get("max_window_layers", 28)), layers := int(config["num_hidden_layers"]))
    return set(config.get("layer_types") or ["full_attention"] * full + ["sliding_attention"] * (layers - full))
