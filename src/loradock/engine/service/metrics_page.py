"""What a replica has counted, as Prometheus reads it. Imported with its library when it is first asked for."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loradock.engine.adapters.adapters import Adapters
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.service.metrics import Metrics
from loradock.types.enums import AdapterTier


def render(metrics: Metrics, loop: EngineLoop, adapters: Adapters, accept: str) -> tuple[bytes, str]:
    """Body and content type for an `Accept` header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, loop, adapters))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    def __init__(self, metrics: Metrics, loop: EngineLoop, adapters: Adapters) -> None:
        self._metrics = metrics
        self._loop = loop
        self._adapters = adapters

    def collect(self) -> Iterator[Metric]:
        for name, (text, value) in self._now().items():
            yield GaugeMetricFamily(f"loradock_{name}", text, value)
        for name, (text, count) in self._since_the_start().items():
            yield CounterMetricFamily(f"loradock_{name}", text, count)
        requests = CounterMetricFamily("loradock_requests", "Requests by how they ended.", labels=["model", "outcome"])
        for labels, number in self._metrics.requests.items():
            requests.add_metric(labels, number)
        yield requests
        tokens = CounterMetricFamily("loradock_model_tokens", "Tokens generated.", labels=["model"])
        for model, number in self._metrics.tokens.items():
            tokens.add_metric([model], number)
        yield tokens

    def _now(self) -> dict[str, tuple[str, float]]:
        loop = self._loop
        tiers = Counter(tier for _, _, tier in self._adapters.listing())
        return {
            "requests_running": ("Sequences that take part in steps.", loop.running),
            "requests_waiting": ("Sequences that wait for their first step.", loop.waiting),
            "kv_cache_usage_ratio": ("Used part of the KV cache.", round(loop.scheduler.cache.usage, 6)),
            "adapters_loaded": ("Adapters, wherever they are kept.", tiers.total()),
            **{f"adapters_{tier}": (f"Adapters kept in tier {tier}.", tiers[tier]) for tier in AdapterTier},
            "adapters_draining": ("Adapters that finish their last requests.", self._adapters.draining),
        }

    def _since_the_start(self) -> dict[str, tuple[str, float]]:
        loop = self._loop
        drafter = loop.scheduler.drafter
        return {
            "steps": ("Passes through the model.", loop.steps),
            "adapter_reads": ("Adapters read from disk.", self._adapters.memory.reads),
            "preemptions": ("Sequences that gave up their place in the KV cache.", loop.scheduler.preemptions),
            "draft_tokens": ("Tokens that the n-gram drafter proposed.", drafter.drafted),
            "accepted_draft_tokens": ("Of these, those the model agreed with.", drafter.accepted),
            "prompt_tokens": ("Tokens of prompts.", self._metrics.prompt_tokens),
            "prefix_cache_tokens": (
                "Tokens of prompts that the prefix cache held.",
                loop.scheduler.prefixes.found_tokens,
            ),
            "prefix_cache_disk_tokens": ("Of these, tokens that came from disk.", loop.scheduler.prefixes.disk_tokens),
            "generated_tokens": ("Tokens generated.", loop.generated_tokens),
        }
