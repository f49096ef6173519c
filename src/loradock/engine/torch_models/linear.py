"""A matrix product with fixed weights, laid out once for the processor's instructions."""

import torch
import torch.nn.functional as F


class Linear:
    """x `[rows, in]` → `[rows, out]`. On a CPU the weight is kept only in oneDNN's own order: products of few rows
    are then up to twice as fast as on a plain matrix.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._out = weight.shape[0]
        self._bias = bias
        self._packed = _packable(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 32) if self._packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        if not x.shape[0]:
            return x.new_empty(0, self._out)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product


def _packable(weight: torch.Tensor) -> bool:
    if weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    return weight.dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
