"""What the processor can do that decides how everybody is measured, and where the results lie."""

import os
from pathlib import Path


def facts() -> dict[str, str]:
    """What Linux says of its last core; empty elsewhere."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.exists() else []
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def instructions() -> list[str]:
    """The instruction sets that matter here."""
    known = facts().get("flags", "").split()
    return [name for name in ("avx2", "avx512f", "avx512bw", "avx512_bf16", "amx_bf16") if name in known]


AVX2_CHOSEN = os.environ.get("LORADOCK_KERNELS") == "avx2" and "avx512f" in instructions()
"""Loradock is told to compute with AVX2 alone on a processor that has more; llama.cpp's wheel does so anyway."""
_KINDS = (("avx512", "avx512f"), ("avx2", "avx2"))[AVX2_CHOSEN:]
KIND = next((name for name, sign in _KINDS if sign in instructions()), "other")
PYTORCH_TYPE = "bfloat16" if "avx512bw" in instructions() else "float32"
"""In which PyTorch's matrix products are faster: without these instructions its bfloat16 takes five times as long."""
