"""Two pictures: who is how fast as adapters mix, and what of the base model's speed is left."""

import statistics
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.records import Records
from benchmarks.targets import BASE_32, EIGHT_32, MANY_32, ONE_1

_COLORS = {
    "loradock": "#c8102e",
    "loradock-int8": "#e4606f",
    "loradock-int4": "#f2a0aa",
    "vllm": "#e9a03b",
    "llamacpp-q4_1": "#17395a",
    "llamacpp-q8_0": "#2f6695",
    "llamacpp-f16": "#6d9fc9",
    "llamacpp-bf16": "#aecde8",
    "peft": "#8a8a8a",
}
_CASES = {
    "base model\n32 clients": BASE_32,
    "8 adapters\n32 clients": EIGHT_32,
    "32 adapters\n32 clients": MANY_32,
    "1 adapter\n1 client": ONE_1,
}


def draw(records: Records, folder: Path) -> None:
    """Nothing without matplotlib: the tables do not need it."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("matplotlib is not installed, so no plots are drawn (pip install --group bench)")
        return
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "loradock"
    peers = [peer for peer in PEERS if peer.name in _COLORS and _rate(records, peer.name, EIGHT_32)]
    if peers:
        _throughput(records, peers, folder / "peers.svg")
        _kept(records, peers, folder / "kept.svg")


def _rate(records: Records, peer: str, case: str) -> float:
    values = records.values("tokens_per_s", kind="load", peer=peer, case=case)
    return statistics.median(values) if values else 0.0


def _best_rate(records: Records, peer: str, case: str) -> float:
    """With or without drafts, whichever is faster."""
    return max(_rate(records, name, case) for name in (peer, f"{peer}-drafts"))


def _throughput(records: Records, peers, file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 4))
    width = 0.88 / len(peers)
    cases = {title: case for title, case in _CASES.items() if any(_rate(records, peer.name, case) for peer in peers)}
    for number, peer in enumerate(peers):
        rates = [_best_rate(records, peer.name, case) for case in cases.values()]
        places = [place + (number - (len(peers) - 1) / 2) * width for place in range(len(cases))]
        bars = axes.bar(places, rates, width, label=peer.title, color=_color(peer.name))
        axes.bar_label(bars, [f"{rate:.0f}" if rate else "" for rate in rates], fontsize=6)
    axes.set_xticks(range(len(cases)), cases.keys())
    axes.set_ylabel("tokens per second")
    _finish(figure, axes, file)


def _kept(records: Records, peers, file: Path) -> None:
    """The share of the base model's throughput that is left when adapters mix, at 32 clients."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for peer in peers:
        base = _rate(records, peer.name, BASE_32)
        rates = [_rate(records, peer.name, case) for case in (BASE_32, EIGHT_32, MANY_32)]
        points = [(place, 100 * rate / base) for place, rate in enumerate(rates) if rate and base]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=peer.title, color=_color(peer.name))
    axes.set_xticks(range(3), ("base model", "8 adapters", "32 adapters"))
    axes.set_ylabel("% of its own base throughput, 32 clients")
    axes.set_ylim(0, 110)
    _finish(figure, axes, file)


def _color(name: str) -> str:
    return _COLORS[name]


def _finish(figure, axes, file: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
