"""Counters of one replica, in Prometheus' text format."""

from collections import Counter

from loradock.engine.adapters.adapters import Adapters
from loradock.engine.scheduling.loop import EngineLoop
from loradock.types.enums import AdapterTier

# A name costs the scraper memory for ever: adapters beyond this many are counted together.
MAX_NAMES = 256
_OTHER = "other"


class Metrics:
    """Changed only on the event loop's thread."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self._requests: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[str] = Counter()

    def count_prompts(self, lengths: list[int]) -> None:
        self.prompt_tokens += sum(lengths)

    def count_request(self, model: str, outcome: str, tokens: int) -> None:
        """`outcome`: finished, failed, aborted (the client left) or refused."""
        label = model if model in self._tokens or len(self._tokens) < MAX_NAMES else _OTHER
        self._requests[label, outcome] += 1
        self._tokens[label] += tokens

    def render(self, loop: EngineLoop, adapters: Adapters) -> str:
        tiers = Counter(tier for _, _, tier in adapters.listing())
        gauges = {
            "requests_running": loop.running,
            "requests_waiting": loop.waiting,
            "kv_cache_usage_ratio": round(loop.scheduler.cache.usage, 6),
            "adapters_loaded": tiers.total(),
            **{f"adapters_{tier}": tiers[tier] for tier in AdapterTier},
            "adapters_draining": adapters.draining,
        }
        counters = {
            "steps_total": loop.steps,
            "adapter_reads_total": adapters.memory.reads,
            "preemptions_total": loop.scheduler.preemptions,
            "draft_tokens_total": loop.scheduler.drafter.drafted,
            "accepted_draft_tokens_total": loop.scheduler.drafter.accepted,
            "prompt_tokens_total": self.prompt_tokens,
            "generated_tokens_total": loop.generated_tokens,
        }
        lines = [line for name, value in gauges.items() for line in _family(name, "gauge", {"": value})]
        lines += [line for name, value in counters.items() for line in _family(name, "counter", {"": value})]
        by_outcome = {_labels(model=m, outcome=o): value for (m, o), value in self._requests.items()}
        lines += _family("requests_total", "counter", by_outcome)
        lines += _family("model_tokens_total", "counter", {_labels(model=m): v for m, v in self._tokens.items()})
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, samples: dict[str, int] | dict[str, float]) -> list[str]:
    name = f"loradock_{name}"
    return [f"# TYPE {name} {kind}", *(f"{name}{labels} {value}" for labels, value in samples.items())]


def _labels(**values: str) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in values.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
