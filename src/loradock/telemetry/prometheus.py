"""Prometheus metrics: what was served since the server started, and how endpoints are now."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loradock.telemetry.buckets import Served
from loradock.telemetry.histogram import BOUNDS, Histogram
from loradock.telemetry.readings import Reading
from loradock.telemetry.usage import Usage
from loradock.types.enums import Outcome

_BOUNDS = BOUNDS[::4]
"""Fewer than are kept: every one is a line per adapter."""
_TIMES = {
    "ttft": ("loradock_time_to_first_token_seconds", "Until the first token of a stream went out."),
    "per_token": ("loradock_time_per_output_token_seconds", "From token to token after the first, mean of a stream."),
    "duration": ("loradock_request_duration_seconds", "Of requests that were answered, to the last byte."),
}


def render(endpoints: Mapping[str, str], served: Served, readings: Iterable[Reading], accept: str) -> tuple[bytes, str]:
    """Body and content type for an `Accept` header. `endpoints`: id → name of those to show. Adapters an endpoint
    served beyond 256 are one, `other`; the base model has no `adapter` label."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(endpoints, served, [r for r in readings if r.endpoint_id in endpoints]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    def __init__(self, endpoints: Mapping[str, str], served: Served, readings: list[Reading]) -> None:
        self._endpoints = endpoints
        self._readings = readings
        self._rows = [
            ([name, model], usage) for id_, name in endpoints.items() for model, usage in served.of(id_).items()
        ]

    def collect(self) -> Iterator[Metric]:
        yield self._requests()
        yield self._tokens()
        for attribute, (name, text) in _TIMES.items():
            yield self._times(attribute, name, text)
        yield from self._gauges()

    def _requests(self) -> Metric:
        labels = ["endpoint", "adapter", "outcome"]
        family = CounterMetricFamily("loradock_requests", "Requests by how they ended.", labels=labels)
        for row, usage in self._rows:
            for outcome in Outcome:
                family.add_metric([*row, outcome], getattr(usage, outcome))
        return family

    def _tokens(self) -> Metric:
        labels = ["endpoint", "adapter", "kind"]
        family = CounterMetricFamily("loradock_tokens", "Tokens read (prompt) and generated.", labels=labels)
        for row, usage in self._rows:
            family.add_metric([*row, "prompt"], usage.prompt_tokens)
            family.add_metric([*row, "completion"], usage.completion_tokens)
        return family

    def _times(self, attribute: str, name: str, text: str) -> Metric:
        family = HistogramMetricFamily(name, text, labels=["endpoint", "adapter"])
        for row, usage in self._rows:
            times = _times_of(usage, attribute)
            counts = [*times.cumulated(_BOUNDS), times.count]
            bounds = [*(str(bound) for bound in _BOUNDS), "+Inf"]
            family.add_metric(row, buckets=list(zip(bounds, counts, strict=True)), sum_value=times.total)
        return family

    def _gauges(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("loradock_requests_in_flight", "Requests being served.", labels=["endpoint"])
        attached = GaugeMetricFamily("loradock_adapters_attached", "Adapters attached.", labels=["endpoint"])
        replicas = GaugeMetricFamily("loradock_replicas", "Replicas by state.", labels=["endpoint", "state"])
        for reading in self._readings:
            name = self._endpoints[reading.endpoint_id]
            in_flight.add_metric([name], reading.in_flight)
            attached.add_metric([name], reading.attachments)
            for state in ("ready", "starting", "desired"):
                replicas.add_metric([name, state], getattr(reading, state))
        yield from (in_flight, attached, replicas)


def _times_of(usage: Usage, attribute: str) -> Histogram:
    times: Histogram = getattr(usage, attribute)
    return times
