"""The treatment of each parameter of `/v1/chat/completions` and `/v1/completions`, by its name: one table for every
engine, for whole answers and streams alike.

What constrains or shapes the output is honoured or refused, never ignored. What no answer depends on passes. A name
that is not here is remarked on, as clients send many of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from loradock.types.errors import BadRequest

MAX_REMARKS = 16


class Handling(Enum):
    """REMARKED: not applied, which the answer's `warnings` say. REFUSED: a 400, unless the value switches it off."""

    HONOURED = auto()
    HARMLESS = auto()
    REMARKED = auto()
    REFUSED = auto()


@dataclass(frozen=True)
class Parameter:
    """`off`: values that ask for nothing, as null always does. `reason`: why it is not applied, or what to send
    instead."""

    handling: Handling
    reason: str = ""
    off: tuple[Any, ...] = ()
    chat: bool = True
    completions: bool = True

    def asks(self, value: Any) -> bool:
        return value is not None and not any(type(value) is type(off) and value == off for off in self.off)


def check(body: Mapping[str, Any], *, chat: bool) -> list[str]:
    """The remarks on a request's parameters. Raises BadRequest on one that is refused."""
    remarks: list[str] = []
    unknown: list[str] = []
    for name, value in body.items():
        if name in _TAKEN[chat]:
            continue
        known = PARAMETERS.get(name)
        if known is None:
            if value is not None:
                unknown.append(name)
        elif known.asks(value):
            _refuse(name, known, chat=chat)
            if known.handling is Handling.REMARKED:
                remarks.append(f"{name} was not applied: {known.reason}")
    remarks += [_unknown(name, chat=chat) for name in unknown[:MAX_REMARKS]]
    if len(unknown) > MAX_REMARKS:
        remarks.append(f"{len(unknown) - MAX_REMARKS} more parameters are not known here and were not applied")
    return remarks


def _refuse(name: str, known: Parameter, *, chat: bool) -> None:
    if known.handling is Handling.REFUSED:
        raise BadRequest(f"{name} is not supported: {known.reason}", param=name)
    if not (known.chat if chat else known.completions):
        here, there = ("completions", "chat/completions") if known.chat else ("chat/completions", "completions")
        raise BadRequest(f"{name} is a parameter of /v1/{there}, not of /v1/{here}: leave it out", param=name)


def _unknown(name: str, *, chat: bool) -> str:
    near = nearest(name, (n for n, p in PARAMETERS.items() if (p.chat if chat else p.completions)))
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    return f"{shown} is not known here and was not applied" + (f"; did you mean {near}?" if near else "")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that this one was probably meant to be: the same but for case and separators, or one edit away
    (a letter added, left out, replaced, or two neighbours swapped)."""
    bare = _bare(name)
    if not 3 <= len(bare) <= 64:
        return None
    candidates = sorted((n for n in names if len(_bare(n)) >= 3), key=_bare)
    same = next((n for n in candidates if _bare(n) == bare), None)
    return same or next((n for n in candidates if _one_edit(bare, _bare(n))), None)


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _one_edit(one: str, other: str) -> bool:
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _all(handling: Handling, names: str, reason: str = "", **fields: Any) -> dict[str, Parameter]:
    return dict.fromkeys(names.split(), Parameter(handling, reason, **fields))


def _refused(names: str, reason: str, *off: Any) -> dict[str, Parameter]:
    return _all(Handling.REFUSED, names, reason, off=off)


_HONOURED = {
    **_all(
        Handling.HONOURED,
        "model stream stream_options n best_of max_tokens max_completion_tokens min_tokens temperature top_p top_k"
        " min_p repetition_penalty presence_penalty frequency_penalty seed logit_bias logprobs top_logprobs echo stop"
        " stop_token_ids ignore_eos include_stop_str_in_output no_stop_trim skip_special_tokens bad_words"
        " allowed_token_ids context_length_exceeded_behavior truncate_prompt_tokens truncation_side add_special_tokens"
        " response_format structured_outputs guided_json guided_json_object guided_regex guided_choice guided_grammar"
        " json_schema regex ebnf grammar",
    ),
    **_all(
        Handling.HONOURED,
        "messages tools tool_choice parallel_tool_calls reasoning reasoning_effort chat_template_kwargs documents"
        " add_generation_prompt continue_final_message chat_template",
        completions=False,
    ),
    **_all(Handling.HONOURED, "prompt", chat=False),
}

_HARMLESS = _all(
    Handling.HARMLESS,
    # Who asks, what for, and how it is billed or kept.
    "user metadata service_tier store safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention"
    " request_id rid session_id usage custom_labels extra_key"
    # How fast it goes, and in how many pieces it comes.
    " prediction stream_interval stream_reasoning cache_prompt keep_alive guided_decoding_backend"
    # What only matters beside something that is refused, or to what these models do not read.
    " spaces_between_special_tokens media_io_kwargs mm_processor_kwargs mirostat_tau mirostat_eta dry_base"
    " dry_allowed_length dry_penalty_last_n dry_sequence_breakers xtc_threshold dynatemp_exponent repeat_last_n",
)

_REMARKED = {
    **_all(Handling.REMARKED, "safety_model moderation", "no moderation model runs here"),
    **_all(Handling.REMARKED, "compliance", "this server makes no compliance promises"),
    **_all(Handling.REMARKED, "priority", "requests are served in turn, by adapter", off=(0,)),
    **_all(Handling.REMARKED, "cache_salt", "cached prompts are kept apart by adapter, not by salt"),
    **_all(Handling.REMARKED, "separate_reasoning", "reasoning stays in the text", off=(False,)),
}

_SAMPLER = "this sampler is not offered: use temperature, top_p, top_k or min_p"
_SHAPE = "answers have no place for it"

_REFUSED = {
    # Other ways of searching and sampling.
    **_refused("use_beam_search early_stopping", "beam search is not offered", False),
    **_refused("num_beams beam_width", "beam search is not offered", 1),
    **_refused("length_penalty", "it belongs to beam search, which is not offered", 1, 1.0),
    **_refused("do_sample", "send temperature 0 for greedy decoding", True),
    **_refused("typical_p typical tfs_z tfs", _SAMPLER, 1, 1.0),
    **_refused(
        "top_a top_n_sigma eta_cutoff epsilon_cutoff mirostat mirostat_mode dry_multiplier xtc_probability"
        " dynatemp_range smoothing_factor penalty_alpha",
        _SAMPLER,
        *(0, 0.0, False),
    ),
    **_refused("samplers sampler_seq", _SAMPLER, "", []),
    **_refused("guidance_scale", "guidance by a negative prompt is not offered", 1, 1.0),
    **_refused("negative_prompt", "guidance by a negative prompt is not offered", ""),
    **_refused("no_repeat_ngram_size", "send repetition_penalty or frequency_penalty", 0),
    **_refused("encoder_repetition_penalty", "send repetition_penalty", 1, 1.0),
    **_refused("repetition_detection", "send repetition_penalty, or stop"),
    **_refused("watermark watermarking", "texts are not watermarked", False),
    **_refused("logits_processors custom_logit_processor custom_params", "requests bring no code here", [], {}, ""),
    **_refused("verbosity", "say in the messages how long the answer should be", "medium"),
    **_refused(
        "thinking_token_budget thinking_budget", "reasoning is not counted: limit the answer with max_tokens", -1
    ),
    **_refused("thinking enable_thinking think", "send reasoning: {enabled: …}, or chat_template_kwargs"),
    **_refused("include_reasoning", "reasoning stays in the text", True),
    # Other names of what is offered.
    **_refused("max_new_tokens num_predict n_predict max_output_tokens", "send max_tokens", -1),
    **_refused("min_new_tokens", "send min_tokens", 0),
    **_refused("stop_sequences stop_sequence", "send stop", "", []),
    **_refused("repeat_penalty", "send repetition_penalty", 1, 1.0),
    **_refused("random_seed", "send seed"),
    **_refused("format", "send response_format", ""),
    **_refused("options", "send its members as parameters of the request", {}),
    **_refused("truncate", "send truncate_prompt_tokens", False),
    **_refused("return_full_text", "send echo", False),
    **_refused("stop_regex", "send stop, or guided_regex for the whole answer", "", []),
    **_refused("functions", "this is the retired form: send tools"),
    **_refused("function_call", "this is the retired form: send tool_choice", "none", "auto"),
    **_refused(
        "lora_path lora_request lora adapter_id adapter_source", "name the adapter as the model of the request", "", []
    ),
    **_refused("guided_whitespace_pattern", "JSON is written with little white space", ""),
    # What comes back with the text.
    **_refused("prompt_logprobs", "send echo: true with logprobs to get those of the prompt"),
    **_refused("decoder_input_details", "send echo: true with logprobs to get those of the prompt", False),
    **_refused("top_n_tokens n_probs", "send logprobs", 0),
    **_refused("logprob_token_ids", "send logprobs", []),
    **_refused(
        "details return_hidden_states return_token_ids return_tokens_as_token_ids return_prompt_token_ids"
        " return_prompt_text return_token_offsets return_routed_experts return_cached_tokens_details return_meta_info",
        _SHAPE,
        False,
    ),
    # What goes in, and what comes out, beside text.
    **_refused("input_ids prompt_embeds inputs", "send prompt or messages"),
    **_refused("suffix", "these models cannot fill in the middle", ""),
    **_refused("audio", "this server generates text"),
    **_refused("modalities", "this server generates text", [], ["text"]),
    **_refused("web_search_options", "nothing is searched here: send what the model shall know in the messages"),
    **_refused("plugins", "nothing is searched or run here", []),
    **_refused("safe_prompt", "say in the system message what the model shall avoid", False),
}

PARAMETERS: dict[str, Parameter] = {**_HONOURED, **_HARMLESS, **_REMARKED, **_REFUSED}
_TAKEN = {
    chat: frozenset(name for name, p in (_HONOURED | _HARMLESS).items() if (p.chat if chat else p.completions))
    for chat in (True, False)
}
"""The parameters by route whose values need no look."""
