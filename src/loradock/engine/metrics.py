"""Prometheus text for one replica."""

from loradock.engine.adapters import AdapterTable
from loradock.engine.loop import EngineLoop


def render_metrics(loop: EngineLoop, adapters: AdapterTable) -> str:
    """Gauges and counters in the text exposition format."""
    values = {
        "loradock_requests_running": ("gauge", loop.running),
        "loradock_requests_waiting": ("gauge", loop.waiting),
        "loradock_kv_cache_usage_ratio": ("gauge", loop.cache_usage),
        "loradock_adapters_loaded": ("gauge", len(adapters.loaded)),
        "loradock_prompt_tokens_total": ("counter", loop.prompt_tokens),
        "loradock_generated_tokens_total": ("counter", loop.generated_tokens),
    }
    return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in values.items())
