"""What it costs to pass through a gateway: Loradock, vllm-router and LiteLLM before the same instant engine."""

from benchmarks.gateways.measuring import add_gateways

__all__ = ["add_gateways"]
