"""Every test in here goes through all instruction sets that this processor has."""

import os
from pathlib import Path

import pytest

from loradock.engine.kernels import adapter_packing, library, sampling, weight_packing

if other := os.environ.get("LORADOCK_TESTED_LIBRARY"):  # one with sanitizers
    library._FILE = Path(other)
TABLES = {table.name.decode(): table for table in library.every_set()}


@pytest.fixture(scope="module", params=TABLES)
def table(request):
    chosen = TABLES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for module in (adapter_packing, sampling, weight_packing):
            patch.setattr(module, "kernels", lambda: chosen)
        yield chosen
