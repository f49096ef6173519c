"""NumPy's arrays as torch's tensors."""

import numpy as np
import torch

from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.weight_packing import Rows
from loradock.engine.models.weights import in_floats


def torch_dtype(dtype: Dtype) -> torch.dtype:
    return torch.bfloat16 if dtype is Dtype.BFLOAT16 else torch.float32


def as_tensor(rows: Rows) -> torch.Tensor:
    """The same numbers: bfloat16 where the file has that, otherwise float32."""
    if isinstance(rows, np.ndarray) and rows.dtype == np.uint16:
        return torch.from_numpy(rows.copy()).view(torch.bfloat16)  # maps of files are not writable, and torch warns
    return torch.from_numpy(in_floats(rows).copy())
