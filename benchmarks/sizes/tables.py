"""What was found in sizes, as tables: each width beside llama.cpp of the same."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.models import MODELS
from benchmarks.peers.base import Setting
from benchmarks.records import Records
from benchmarks.sizes.contexts import Point
from benchmarks.sizes.sizes import CASES
from benchmarks.sizes.widths import rivals_of, size_peers, width_of
from benchmarks.tables import section, table

_Row = dict[str, Any]
_PEERS = {peer.name: peer for peer in size_peers(Setting(), everywhere=True)}


def sizes_report(records: Records) -> str:
    """`sizes.md`."""
    parts = [
        _head(records),
        section("Short prompts: tokens per second", _sizes(records)),
        section("Long prompts: tokens of prompts per second, then of answers", _contexts(records)),
        section("Start and memory", _starts(records)),
        section("The first packing of a model", _packing(records)),
        section("Who was measured, and how it was run", _settings(records)),
    ]
    return "\n".join(part for part in parts if part)


def _head(records: Records) -> str:
    facts = records.facts
    names = ", ".join(f"{model.name.upper()} ({model.title})" for model in MODELS.values())
    return (
        "# Sizes, contexts, start and memory\n\n"
        f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']},"
        f" Loradock {facts['loradock']}. Engine against engine over HTTP, no drafts. {names}: all with SmolLM2's"
        " tokenizer and 49,152 tokens; only the smallest has trained weights, those of the others are random, and"
        " Loradock reads them from bfloat16 safetensors, the others from GGUF of the same numbers. Medians"
        " of repetitions that take turns; in brackets how many times llama.cpp's of the same width;"
        " disturbed: something else took the cores or the memory in each repetition. Made by"
        " `make bench` from `sizes.json`.\n"
    )


def _present(rows: Iterable[_Row]) -> list[str]:
    measured = {row["peer"] for row in rows}
    return [name for name in _PEERS if name in measured]


def _sizes(records: Records) -> str:
    parts = []
    for model in MODELS.values():
        names = [replace(case, model=model.name).name for case in CASES]
        rows = []
        for peer in _present(row for name in names for row in records.where(kind="load", case=name)):
            rates = [_beside(records, peer, "tokens_per_s", ".1f", kind="load", case=name) for name in names]
            rows.append([_PEERS[peer].title, *rates])
        if rows:
            parts.append(f"**{model.name.upper()}**\n\n{table(['', *(case.name for case in CASES)], rows)}")
    return "\n\n".join(parts)


def _contexts(records: Records) -> str:
    parts = []
    for model in MODELS.values():
        found = records.where(kind="context", model=model.name)
        points = sorted({(row["context"], row["clients"]) for row in found})
        rows = []
        for peer in _present(found):
            cells = [_PEERS[peer].title]
            for context, clients in points:
                wanted = {"kind": "context", "case": Point(model, context, clients).name}
                cells += [
                    _beside(records, peer, column, ".0f" if column == "prompt_per_s" else ".1f", **wanted)
                    for column in ("prompt_per_s", "decode_per_s")
                ]
            rows.append(cells)
        head = [
            f"{context:,} x {clients}: {what}" for context, clients in points for what in ("prompt", "then decoding")
        ]
        if rows:
            parts.append(f"**{model.name.upper()}** (tokens of each prompt x clients)\n\n{table(['', *head], rows)}")
    return "\n\n".join(parts)


_REPLICA = (
    ("seconds", "start to first token s", ".2f"),
    ("peak_mib", "peak resident MiB, 8 clients with prompts of 512", ".0f"),
    ("pss_mib", "PSS MiB", ".0f"),
    ("second_pss_mib", "a second replica adds MiB (PSS)", ".0f"),
)


def _starts(records: Records) -> str:
    rows = []
    for model in MODELS.values():
        wanted = {"kind": "replica", "model": model.name}
        for peer in _present(records.where(**wanted)):
            cells = [_beside(records, peer, column, form, **wanted) for column, _, form in _REPLICA]
            share = _share(records.where(peer=peer, **wanted))
            rows.append([model.name.upper(), _PEERS[peer].title, *cells, share])
    return table(["", "", *(words for _, words, _ in _REPLICA), "of the first"], rows)


def _share(rows: Sequence[_Row]) -> str:
    return f"{statistics.median(row['second_pss_mib'] / row['pss_mib'] for row in rows):.0%}"


def _packing(records: Records) -> str:
    """Every later start maps what the first one made."""
    rows = []
    for row in records.where(kind="packing"):
        took = row["first_s"] - row["later_s"]
        rate = f"{row['packed_mb'] / took:.0f}" if took > 0 else "-"
        title = _PEERS[row["peer"]].title
        seconds = [f"{row['first_s']:.2f}", f"{row['later_s']:.2f}"]
        rows.append([row["model"].upper(), title, *seconds, f"{row['packed_mb']:.0f}", rate])
    return table(["", "", "first start to first token s", "later ones", "packed MB", "packed MB/s"], rows)


def _settings(records: Records) -> str:
    lines = []
    for name, peer in _PEERS.items():
        words = [peer.settings] if records.where(peer=name) else []
        if name in records.missing:
            words.append(f"left out, or not in every case: {records.missing[name]}")
        if words:
            lines.append(f"- **{peer.title}**: {'; '.join(words)}")
    return "\n".join(lines)


def _beside(records: Records, peer: str, column: str, form: str, **wanted: object) -> str:
    """The median, and how many times the one of llama.cpp of the same width that is."""
    values = records.values(column, peer=peer, **wanted)
    if not values:
        return "disturbed" if records.where(peer=peer, **wanted) else "-"
    mine = statistics.median(values)
    rivals = [name for name in rivals_of(width_of(peer)) if records.values(column, peer=name, **wanted)]
    if not rivals or peer in rivals:
        return format(mine, form)
    theirs = statistics.median(records.values(column, peer=rivals[0], **wanted))
    return f"{mine:{form}} ({mine / theirs:.2f} x)"
