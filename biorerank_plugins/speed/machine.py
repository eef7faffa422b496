"""The machine: what it is, and how much memory it can give."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biorerank_plugins._common.versions import versions

_PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "onnxruntime", "faiss-cpu")
_ARITHMETIC = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "i8mm"),
)


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Say on what figures were taken, as plain JSON types; no path and no host is named."""
    import torch

    facts = _cpu_facts()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else device,
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cpu_arithmetic": [flag for flag in _ARITHMETIC if flag in (facts.get("flags") or "").split()],
        "cpus": os.cpu_count(),
        "threads": threads,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        # Another allocator makes everything in torch faster, the baseline too.
        "preloaded": [Path(name).name for name in os.environ.get("LD_PRELOAD", "").replace(":", " ").split()],
        "platform": platform.system() + " " + platform.machine(),
        "versions": versions(_PACKAGES),
    }


def _cpu_facts() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    rows = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def free_memory() -> int | None:
    """Return the bytes of memory that can still be used, by the machine or by the container; ``None`` if not known."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    except (OSError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no limit reads "max"
        pass
    return min(found, default=None)
