"""Tests that need a CUDA device; skipped where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Models and pairs are those of the tests that need no GPU.
sys.path.insert(0, str(Path(__file__).parents[1] / "scoring"))


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
