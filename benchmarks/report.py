"""The tables: ratios first, then everything measured."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateways.peers import TARGETS
from benchmarks.peers import PEERS
from benchmarks.plots import draw
from benchmarks.records import Records
from benchmarks.sizes import sizes_report
from benchmarks.tables import section, table
from benchmarks.targets import LORADOCK, fastest, targets
from benchmarks.workload import DEFAULT, FULL


def write_report(records: Records, on_sizes: Records, folder: Path) -> None:
    """`peers.md` and the plots beside it, `sizes.md`; of what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    if on_sizes.rows:
        (folder / "sizes.md").write_text(sizes_report(on_sizes))
    if records.rows:
        _write_peers(records, folder)


def _write_peers(records: Records, folder: Path) -> None:
    draw(records, folder)
    parts = [
        _head(records),
        section("The goals", targets(records)),
        section("How many times as fast (tokens per second, Loradock through its gateway : peer)", _ratios(records)),
        section("The roofline", _roofline(records)),
        section("Everything, by case", _cases(records)),
        section("Start and memory", _starts(records)),
        section("Attaching", _attaching(records)),
        section("Gateways", _gateways(records)),
        section("Who was measured, and how it was run", _settings(records)),
    ]
    (folder / "peers.md").write_text("\n".join(part for part in parts if part))


def _head(records: Records) -> str:
    facts = records.facts
    return (
        "# Beside others\n\n"
        f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']},"
        f" Loradock {facts['loradock']}. SmolLM2-135M-Instruct, everything over HTTP on one machine; the client's own"
        " work is in all figures. Medians of the repetitions, which take turns between the peers, without those in"
        " which something else took the cores (the server got less than 80 % of the CPU time that it has at its best in"
        " the same case);"
        " in brackets the lowest and the highest. Made by `make bench` from `peers.json`.\n\n"
        "![tokens per second by peer](peers.svg)\n"
    )


def _present(records: Records, kind: str) -> list[str]:
    measured = {row["peer"] for row in records.where(kind=kind)}
    return [peer.name for peer in PEERS if peer.name in measured]


def _title(name: str) -> str:
    return next((peer.title for peer in PEERS if peer.name == name), name)


def _case_names(records: Records) -> list[str]:
    measured = {row["case"] for row in records.where(kind="load")}
    return [name for name in dict.fromkeys(case.name for case in (*DEFAULT, *FULL)) if name in measured]


def _ratios(records: Records) -> str:
    others = [name for name in _present(records, "load") if not name.startswith(("loradock", "engine"))]
    rows = []
    for case in _case_names(records):
        for ours in dict.fromkeys(("loradock", fastest(records, case))):
            rates = records.values("tokens_per_s", kind="load", peer=ours, case=case)
            if rates and "beside" not in case:
                mine = statistics.median(rates)
                who = f"{LORADOCK[ours]}, our fastest" if ours == fastest(records, case) else LORADOCK[ours]
                rows.append([case, who, f"{mine:.0f}", *(_ratio(records, mine, name, case) for name in others)])
    return table(["case", "Loradock", "tokens/s", *map(_title, others)], rows)


def _ratio(records: Records, mine: float, peer: str, case: str) -> str:
    theirs = records.values("tokens_per_s", kind="load", peer=peer, case=case)
    return f"**{mine / statistics.median(theirs):.1f} x**" if theirs else "-"


_WAYS = {
    "torch": "PyTorch's",
    "onednn": "packed by oneDNN",
    "own": "our own kernels, rows shared by the cores",
    "own_together": "our own kernels, each product shared by the cores",
}


def _roofline(records: Records) -> str:
    """Of each way to make the products; the best one counts."""
    found = records.where(kind="roofline")
    rows = []
    for way, words in _WAYS.items():
        rates = [row[f"{way}_tokens_per_s"] for row in found if f"{way}_tokens_per_s" in row]
        if rates:
            rows.append([words, spread(rates, ".0f", "tokens_per_s")])
    if rows:
        rows.append(["**the best of all measurements**", f"**{max(row['tokens_per_s'] for row in found):.0f}**"])
    return table(["bf16 products of one step of 32 rows, and nothing else", "tokens/s"], rows)


_COLUMNS = (
    ("tokens_per_s", "tokens/s", ".0f"),
    ("requests_per_s", "requests/s", ".2f"),
    ("first_ms_p50", "first token p50 ms", ".0f"),
    ("first_ms_p99", "p99", ".0f"),
    ("token_ms_p50", "per token p50 ms", ".1f"),
    ("token_ms_p99", "p99", ".1f"),
    ("pss_mib", "memory (PSS) MiB", ".0f"),
    ("rss_mib", "(RSS)", ".0f"),
)


def _cases(records: Records) -> str:
    parts = []
    for case in _case_names(records):
        rows = []
        for peer in _present(records, "load"):
            found = records.undisturbed(kind="load", peer=peer, case=case)
            if found:
                cells = [spread([row[key] for row in found], form, key) for key, _, form in _COLUMNS]
                rows.append([_title(peer), *cells, str(len(found))])
        marked = sorted({_title(row["peer"]) for row in records.where(kind="load", case=case, pressed=True)})
        left_out = f"\n\nShort of memory in some runs, which do not count: {', '.join(marked)}." if marked else ""
        parts.append(f"**{case}**\n\n{table(['', *(name for _, name, _ in _COLUMNS), 'runs'], rows)}{left_out}")
    return "\n\n".join(parts)


def spread(values: Sequence[float], form: str, column: str) -> str:
    middle = format(statistics.median(values), form)
    if column != "tokens_per_s" or len(values) < 2:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def _starts(records: Records) -> str:
    rows = []
    for peer in _present(records, "start"):
        cells = [_title(peer)]
        for fleet in ("none", "8xr8", "32xr8"):
            found = records.where(kind="start", peer=peer, fleet=fleet)
            cells += [
                _middle(found, "seconds", ".1f"),
                _middle(found, "pss_mib", ".0f"),
                _middle(found, "rss_mib", ".0f"),
            ]
        rows.append(cells)
    columns = ("start to first token s", "PSS MiB", "RSS MiB")
    head = [f"{who}: {column}" for who in ("no adapter", "8 adapters", "32 adapters") for column in columns]
    return table(["", *head], rows)


def _middle(rows: Sequence[dict], column: str, form: str) -> str:
    return format(statistics.median(row[column] for row in rows), form) if rows else "-"


def _attaching(records: Records) -> str:
    rows = [
        [
            _title(row["peer"]),
            *(f"{row[f'{what}_p50']:.0f} / {row[f'{what}_p99']:.0f}" for what in ("first_ms", "beside_streams_ms")),
            *(_gaps(row, column) for column in _GAPS),
        ]
        for row in records.where(kind="attach")
    ]
    head = ["p50 / p99 in ms", "attach to first token, alone", "beside four streams"]
    return table([*head, *_GAPS.values()], rows)


_GAPS = {
    "idle_gap_ms": "between tokens of the streams, idle",
    "only_attaching_gap_ms": "while adapters are attached in a row",
    "attaching_gap_ms": "while each is asked at once, too",
}


def _gaps(row: dict, column: str) -> str:
    return f"{row[f'{column}_p50']:.1f} / {row[f'{column}_p99']:.1f}" if f"{column}_p50" in row else "-"


_GATEWAY_COLUMNS = (
    ("plain_ms_p50", "plain p50 ms", ".3f"),
    ("stream_ms_p50", "32 chunks p50 ms", ".3f"),
    ("plain_cpu_ms", "CPU ms per request", ".3f"),
    ("paced_stream_cpu_ms", "CPU ms per streamed answer (32 chunks, 2 ms apart)", ".2f"),
    ("plain_per_s", "requests/s, 16 clients", ".0f"),
    ("rss_mib", "RSS MiB", ".0f"),
)


def _gateways(records: Records) -> str:
    rows = []
    for target in TARGETS:
        found = records.where(kind="gateway", peer=target.name)
        if found:
            rows.append([target.title, *(_middle(found, key, form) for key, _, form in _GATEWAY_COLUMNS)])
    return table(["", *(name for _, name, _ in _GATEWAY_COLUMNS)], rows)


def _settings(records: Records) -> str:
    lines = []
    for peer in (*PEERS, *TARGETS[1:]):
        words = [peer.settings] if records.where(peer=peer.name) else []
        if peer.name in records.missing:
            words.append(f"left out, or not in every case: {records.missing[peer.name]}")
        if words:
            lines.append(f"- **{peer.title}**: {'; '.join(words)}")
    return "\n".join(dict.fromkeys(lines))
