"""Device and precision: what is chosen, and what is refused with a sentence."""

from __future__ import annotations

import pytest
import torch

from biorerank_plugins.runtime.devices import cpu_has_bf16, resolve_device, resolve_dtype

CPU = torch.device("cpu")


def test_the_device_is_chosen_or_taken():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device(None).type == best
    assert resolve_device("cpu") == resolve_device(CPU) == CPU


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "meta", 3.5])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=r"device=.*Devices here: cpu"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", torch.float32),
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_names_of_precisions(dtype, expected):
    assert resolve_dtype(dtype, CPU) == expected


@pytest.mark.parametrize("dtype", ["auto", None])
def test_the_automatic_precision(dtype):
    assert resolve_dtype(dtype, CPU) == (torch.bfloat16 if cpu_has_bf16() else torch.float32)
    assert resolve_dtype(dtype, torch.device("cuda")) == torch.float16
    assert resolve_dtype(dtype, torch.device("mps")) == torch.float32


@pytest.mark.parametrize("dtype", ["float16", "fp16", "half", torch.float16])
def test_fp16_on_a_cpu_is_refused(dtype):
    with pytest.raises(
        ValueError, match=r"dtype='float16' is not possible on a CPU\. Choose one of: float32, bfloat16"
    ):
        resolve_dtype(dtype, CPU)


@pytest.mark.parametrize("dtype", ["int8", torch.int8, "", 16])
def test_an_unknown_precision_is_refused(dtype):
    with pytest.raises(ValueError, match=r"is unknown. Choose one of: auto, float32, bfloat16, float16"):
        resolve_dtype(dtype, CPU)
