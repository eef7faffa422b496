"""Which device and precision to compute in, and why."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins._common.forks import why_not_here
from biorerank_plugins.errors import ModelError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "packed")
_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
_SHORT_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Compute without gradients and in the precision of the weights, though the caller be inside ``torch.autocast``."""
    import torch

    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use: the one asked for, else CUDA, else MPS, else the CPU.

    :param device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, a torch device, or ``None`` to choose.
    :raises ValueError: if the name is no device, or that device is not there; the message says which are.
    """
    import torch

    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is no device. {_devices_here()}") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (resolved.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(resolved.type, False):
        raise ValueError(f"device={device!r} is not available on this machine. {_devices_here()}")
    return resolved


def _devices_here() -> str:
    import torch

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return f"Devices here: {', '.join(devices)}."


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the precision to compute in.

    ``"auto"`` takes fp16 on CUDA (it keeps more of nDCG than bf16 does), bf16 on a CPU that multiplies bf16 natively
    (AVX512-BF16 or AMX) and fp32 elsewhere.

    :param dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"``, the short forms ``"fp32"``, ``"bf16"``,
        ``"fp16"``, or a torch dtype.
    :raises ValueError: if the name is unknown, or the device cannot compute in it; the message says what is possible.
    """
    import torch

    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else "auto" if dtype is None else dtype
    name = _SHORT_NAMES.get(name, name)
    if name not in _DTYPES[:-1]:
        raise ValueError(f"dtype={dtype!r} is unknown. Choose one of: {', '.join(_DTYPES)}.")
    if name == "float16" and device.type == "cpu":
        raise ValueError("dtype='float16' is not possible on a CPU. Choose one of: float32, bfloat16.")
    if name == "auto":
        name, why = _automatic_dtype(device)
        logger.info("Computing in %s on %s: %s.", name, device, why)
    resolved: torch.dtype = getattr(torch, name)
    return resolved


def device_and_dtype(
    device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Return what :func:`resolve_device` and :func:`resolve_dtype` do, where ``"int8"`` is possible too, on a CPU.

    :raises ValueError: if a name is unknown, or the two do not go together; the message says what does.

    >>> device_and_dtype(None, "int8")
    (device(type='cpu'), torch.int8)
    """
    import torch

    if str(dtype).removeprefix("torch.") != "int8":
        chosen = resolve_device(device)
        return chosen, resolve_dtype(dtype, chosen)
    chosen = resolve_device("cpu" if device is None else device)
    if chosen.type != "cpu":
        raise ValueError(f"int8 runs on a CPU; got device={str(chosen)!r}.")
    return chosen, torch.int8


def _automatic_dtype(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        return "float16", "CUDA device"
    if device.type == "cpu" and cpu_has_bf16():
        return "bfloat16", "the CPU multiplies bf16 natively"
    return "float32", "no native half precision here"


@cache
def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 natively (AVX512-BF16 or AMX); emulated bf16 is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: torch knows about x86 there too
        import torch

        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "avx512_bf16" in flags or "amx_bf16" in flags


def overflows_fp16(model: torch.nn.Module) -> bool:
    """Return whether a weight of a model does not fit into fp16."""
    import torch

    most = torch.finfo(torch.float16).max
    return any(weight.numel() and weight.detach().abs().max() > most for weight in model.parameters())


def refuse_in_child(device: torch.device, loaded_in: int) -> None:
    """Raise :class:`ModelError` for a GPU that a fork has lost since the model was loaded, in a process of that id."""
    import torch

    lost = device.type == "cuda" and bool(getattr(torch.cuda, "_is_in_bad_fork", bool)())
    reason = why_not_here(device.type, loaded_in=loaded_in, here=os.getpid(), cuda_is_lost=lost)
    if reason is not None:
        raise ModelError(reason)
