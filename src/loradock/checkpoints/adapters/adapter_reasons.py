"""The reasons to refuse an adapter: every kind that is not plain LoRA, with the true reason and what to do.

Fields: https://huggingface.co/docs/peft/package_reference/lora. What PEFT computes as plain LoRA is accepted with a
remark.
"""

import re
from typing import Any

from loradock.types.errors import AdapterRefused

CONFIG_FILE = "adapter_config.json"
MERGE = "or merge it into the base model and serve that as a base model of its own"
_RESIDUAL = (
    "its training started by changing the base model's weights, so it is wrong on the original base;"
    " convert it with PEFT: save_pretrained(path_initial_model_for_weight_conversion=…)"
)
CHANGED_BASE = {"pissa": "PiSSA", "olora": "OLoRA", "corda": "CorDA", "lora_ga": "LoRA-GA", "loftq": "LoftQ"}
"""`init_lora_weights` prefixes whose training alters the base. EVA, MiCA, gaussian and orthogonal do not."""

MLX = (
    "this is an adapter in MLX-LM's own format (adapters.safetensors, lora_parameters), not PEFT's. Either write it as"
    " PEFT does (…lora_a becomes base_model.model.….lora_A.weight and …lora_b becomes ….lora_B.weight, both transposed,"
    " in adapter_model.safetensors; adapter_config.json with peft_type LORA, r, lora_alpha = rank * scale and"
    " target_modules), or merge it with mlx_lm.fuse and serve the result as a base model of its own"
)
NO_PEFT_TYPE = (
    f"{CONFIG_FILE} has no peft_type, so it is not a PEFT config: rank and scaling are not guessed; save the adapter"
    " with PEFT's save_pretrained, or write peft_type, r, lora_alpha and target_modules as it was trained"
)
HALF_MLX = (
    f"{CONFIG_FILE} is MLX-LM's (lora_parameters) and has no peft_type, beside weights in PEFT's layout: its scale"
    " would be lost; write a PEFT config: peft_type LORA, r, lora_alpha = rank * scale, target_modules"
)

_SHOWN = 60
"""Letters of what an uploader wrote."""
CONVERTIBLE = frozenset(
    {"LOHA", "LOKR", "VERA", "VBLORA", "RANDLORA", "C3A", "DELORA", "GRALORA", "MISS", "PSOFT", "TINYLORA", "UNILORA"}
)
"""The kinds that PEFT's save_as_lora makes a LoRA of; LoHa and LoKr exactly, where the rank is large enough."""
CLASSIFIERS = {
    "SEQ_CLS": "a classifier of texts",
    "TOKEN_CLS": "a classifier of tokens",
    "QUESTION_ANS": "for marking answers in texts",
    "FEATURE_EXTRACTION": "for embeddings",
    "SEQ_2_SEQ_LM": "for encoder-decoder models",
}

NOT_PLAIN = {
    "use_dora": f"DoRA rescales whole weight rows, which cannot be shared; train without use_dora, {MERGE}",
    "modules_to_save": f"modules_to_save replaces whole modules of the base; train without it, {MERGE}",
    "lora_bias": f"lora_bias adds trained biases, which are not applied here; train with lora_bias=False, {MERGE}",
    "use_qalora": "QA-LoRA belongs to one quantised base and pools its inputs; train with use_qalora=False",
    "alora_invocation_tokens": "activated LoRA (aLoRA) switches on in mid prompt; train a plain LoRA instead",
    "layer_replication": "layer_replication changes the number of layers of the base; train without it",
    "megatron_config": "Megatron-sharded layers are not served; export the adapter in the Hugging Face layout",
    "trainable_token_indices": f"trainable_token_indices changes the base's embeddings; train without it, {MERGE}",
    "target_parameters": "target_parameters puts LoRA on bare (expert) parameters; target linear modules instead",
    "fan_in_fan_out": "fan_in_fan_out is for transposed (Conv1D) layers, which no served model family has",
    "arrow_config": "Arrow routes between several adapters; upload the adapters one by one",
    "use_bdlora": "block-diagonal LoRA (BD-LoRA) stores its matrices differently; train without use_bdlora",
    "kasa_config": "KaSA truncates the base weights and adds a diagonal; train without kasa_config",
}
TRAINING_ONLY = {
    "velora_config": "VeLoRA only saves memory while it trains",
    "monteclora_config": "MonteCLoRA only samples while it trains",
}
"""Variants that compute plain LoRA once they are trained, and the tensors they leave in the file."""
_TRAINING_TENSOR = re.compile(r".+\.lora_(velora_embed|monteclora_sampler\.\w+)(\.\w+)?")

_KNOWN = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform"),
    *("loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core", "peft_type", "peft_version"),
    *("qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type"),
    *("use_rslora", *NOT_PLAIN, *TRAINING_ONLY),
    # of earlier versions and of other trainers, without meaning for what is computed
    *("enable_lora", "merge_weights", "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr", "unsloth_fixed"),
}

_TENSORS = (
    (r"\.modules_to_save\.", f"a whole trained module (modules_to_save); train without it, {MERGE}"),
    (r"lora_embedding_[AB]", f"LoRA on embeddings, which is not applied here; train without them, {MERGE}"),
    (
        r"unembed_tokens\.",
        "LoRA on the output head (Tinker calls it unembed_tokens), which is not applied here; train with"
        f" train_unembed=False, {MERGE}",
    ),
    (r"lm_head\..*lora_", f"LoRA on the output head, which is not applied here; train without lm_head, {MERGE}"),
    (r"embed_tokens\..*lora_", f"LoRA on embeddings, which is not applied here; train without them, {MERGE}"),
    (r"lora_magnitude", f"DoRA, which rescales whole weight rows; train without use_dora, {MERGE}"),
    (r"trainable_tokens_", f"trained rows of the embeddings; train without trainable_token_indices, {MERGE}"),
    (r"lora_[AB](\.\w+)?\.bias$", f"a trained bias beside LoRA (lora_bias); train with lora_bias=False, {MERGE}"),
    (r"\.bias$", f"trained biases, which are not applied here; train with bias='none', {MERGE}"),
    (r"experts", "LoRA on mixture-of-experts layers, which no served model family has"),
    (r"(score|classifier)\.", "a classifier's head; only adapters of text generation models are served"),
    (r"\.lora_[ab](\.\w+)?$", MLX),
    (r"\.(hada_|lokr_|vera_|oft_|boft_|ia3_|hra_)", "of another method than LoRA; see peft.save_as_lora"),
    (r"lora_E|ranknum", "AdaLoRA's, which scales every rank by itself; train a plain LoRA"),
    (r"prompt_embeddings", "a trained prompt, not LoRA"),
    (r"norm\.weight$", f"a whole trained norm; train without it, {MERGE}"),
)


def refuse_other_kinds(raw: dict[str, Any]) -> list[str]:
    """Remarks on what this adapter_config.json says and what does not change the outcome.

    Raises AdapterRefused unless it describes plain LoRA on a causal language model.
    """
    task = str(raw.get("task_type") or "CAUSAL_LM")[:_SHOWN]
    if task != "CAUSAL_LM":
        what = CLASSIFIERS.get(task, "for something else")
        raise AdapterRefused(
            f"task_type {task}: this adapter is {what}; only adapters of text generation models (CAUSAL_LM) are served"
        )
    _refuse_other_methods(raw)
    for field, reason in NOT_PLAIN.items():
        if raw.get(field):
            raise AdapterRefused(f"{field}: {reason}")
    _refuse_changed_base(raw.get("init_lora_weights", True))
    return [
        *(
            f"{reason} ({field}): served as the plain LoRA it is"
            for field, reason in TRAINING_ONLY.items()
            if raw.get(field)
        ),
        *_unknown(raw),
    ]


def refuse_tensor(name: str, served: tuple[str, ...]) -> AdapterRefused:
    """Return the refusal of a tensor that no plain LoRA has."""
    reason = next((reason for pattern, reason in _TENSORS if re.search(pattern, name)), None)
    if reason is None:
        reason = f"LoRA is served on {', '.join(served)}; train on some of these"
    return AdapterRefused(f"unexpected tensor {name}: {reason}")


def is_of_training(name: str) -> bool:
    """Whether a tensor is a training variant's own, of no use afterwards."""
    return _TRAINING_TENSOR.fullmatch(name) is not None


def _refuse_other_methods(raw: dict[str, Any]) -> None:
    kind = raw.get("peft_type")
    if not kind:
        raise AdapterRefused(HALF_MLX if "lora_parameters" in raw else NO_PEFT_TYPE)
    kind = str(kind)[:_SHOWN]
    if kind in CONVERTIBLE:
        raise AdapterRefused(
            f"peft_type {kind} is not served as it is: only LoRA can share an endpoint; PEFT makes one of it:"
            " peft.save_as_lora(folder, model, rank=…), exact where the rank is large enough; upload that folder"
        )
    if kind != "LORA":
        raise AdapterRefused(f"peft_type {kind} is not served: only LoRA (peft_type LORA) can share an endpoint")


def _refuse_changed_base(init: Any) -> None:
    if not isinstance(init, str):
        return
    for prefix, name in CHANGED_BASE.items():
        if init.lower().startswith(prefix):
            advice = "train from an unquantised base" if prefix == "loftq" else _RESIDUAL
            raise AdapterRefused(f"init_lora_weights={init[:_SHOWN]!r}: {name} is not served: {advice}")


def _unknown(raw: dict[str, Any]) -> list[str]:
    """PEFT calls a variant's switch use_… or …_config: one that is not known here may compute something else."""
    remarks = []
    for field, value in raw.items():
        if field in _KNOWN or not value or value == "none":
            continue
        shown = f"{field[:_SHOWN]}={str(value)[:_SHOWN]!r}"
        if field.startswith("use_") or field.endswith("_config"):
            raise AdapterRefused(
                f"{CONFIG_FILE}: {shown} is not known here and may change what the adapter computes: if it does not,"
                " remove the field and upload again"
            )
        remarks.append(f"{CONFIG_FILE}: {shown} is not known here and was not looked at")
    return remarks
