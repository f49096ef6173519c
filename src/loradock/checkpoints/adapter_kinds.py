"""The adapter kinds that are not plain LoRA, each refused by name with the reason and what to do.

Field meanings: https://huggingface.co/docs/peft/package_reference/lora
"""

from typing import Any

from loradock.types.errors import AdapterRefused

_MERGE = "or merge it into the base model and serve that as a base model of its own"
_RESIDUAL = (
    "its training started by changing the base model's weights, so it is wrong on the original base;"
    " convert it with PEFT: save_pretrained(path_initial_model_for_weight_conversion=…)"
)
CHANGED_BASE = {"pissa": "PiSSA", "olora": "OLoRA", "corda": "CorDA", "lora_ga": "LoRA-GA", "loftq": "LoftQ"}
"""`init_lora_weights` prefixes whose training alters the base. EVA, MiCA, gaussian and orthogonal do not."""

NOT_PLAIN = {
    "use_dora": f"DoRA rescales whole weight rows, which cannot be shared; train without use_dora, {_MERGE}",
    "modules_to_save": f"modules_to_save replaces whole modules of the base; train without it, {_MERGE}",
    "lora_bias": f"lora_bias adds trained biases, which are not applied here; train with lora_bias=False, {_MERGE}",
    "use_qalora": "QA-LoRA belongs to one quantised base and pools its inputs; train with use_qalora=False",
    "alora_invocation_tokens": "activated LoRA (aLoRA) switches on in mid prompt; train a plain LoRA instead",
    "layer_replication": "layer_replication changes the number of layers of the base; train without it",
    "megatron_config": "Megatron-sharded layers are not served; export the adapter in the Hugging Face layout",
    "trainable_token_indices": f"trainable_token_indices changes the base's embeddings; train without it, {_MERGE}",
    "target_parameters": "target_parameters puts LoRA on bare (expert) parameters; target linear modules instead",
    "fan_in_fan_out": "fan_in_fan_out is for transposed (Conv1D) layers, which no served model family has",
    "arrow_config": "Arrow routes between several adapters; upload the adapters one by one",
    "use_bdlora": "block-diagonal LoRA (BD-LoRA) stores its matrices differently; train without use_bdlora",
    "kasa_config": "KaSA truncates the base weights and adds a diagonal; train without kasa_config",
    "monteclora_config": "MonteCLoRA samples around its weights; train without monteclora_config",
    "velora_config": "VeLoRA saves tensors of its own; train without velora_config",
}


def refuse_other_kinds(raw: dict[str, Any]) -> None:
    """Raises AdapterRefused unless this adapter_config.json describes plain LoRA on a causal language model."""
    kind = raw.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterRefused(f"peft_type {kind} is not served: only LoRA (peft_type LORA) can share an endpoint")
    for field, reason in NOT_PLAIN.items():
        if raw.get(field):
            raise AdapterRefused(f"{field}: {reason}")
    bias = raw.get("bias") or "none"
    if bias != "none":
        raise AdapterRefused(f"bias={bias!r}: trained biases cannot be shared; train with bias='none', {_MERGE}")
    task = raw.get("task_type") or "CAUSAL_LM"
    if task != "CAUSAL_LM":
        raise AdapterRefused(f"task_type {task}: only adapters of text generation models (CAUSAL_LM) are served")
    _refuse_changed_base(raw.get("init_lora_weights", True))


def _refuse_changed_base(init: Any) -> None:
    if not isinstance(init, str):
        return
    for prefix, name in CHANGED_BASE.items():
        if init.lower().startswith(prefix):
            advice = "train from an unquantised base" if prefix == "loftq" else _RESIDUAL
            raise AdapterRefused(f"init_lora_weights={init!r}: {name} is not served: {advice}")
