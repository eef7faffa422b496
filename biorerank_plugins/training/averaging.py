"""The weighted mean of models that were trained from the same weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["average_weights"]


def average_weights(folders: Sequence[str | Path], weights: Sequence[float], out: str | Path) -> Path:
    """Write a model whose weights are the weighted mean of several models of the same form.

    Between fine-tuned weights and those they came from, the mean often keeps most of what was learned and most of what
    the base could do elsewhere (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    :param folders: model folders with ``model.safetensors``; everything else is taken from the first.
    :param weights: share of each; they must sum to 1.
    :param out: folder to write, which must not exist.
    :returns: ``out``.
    :raises ValueError: if the shares do not fit.
    :raises ModelError: if the models have different weights.
    """
    import torch
    from safetensors.torch import load_file, save_file

    if len(folders) != len(weights) or not folders or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise ValueError(f"Expected one share for each of {len(folders)} models, with sum 1, got {list(weights)}.")
    states = [load_file(str(Path(folder) / "model.safetensors")) for folder in folders]
    if any({n: t.shape for n, t in state.items()} != {n: t.shape for n, t in states[0].items()} for state in states):
        raise ModelError(f"These models have different weights and cannot be averaged: {', '.join(map(str, folders))}.")
    mean: dict[str, torch.Tensor] = {}
    for name, tensor in states[0].items():
        if not tensor.is_floating_point():
            mean[name] = tensor
            continue
        parts = (share * state[name].double() for share, state in zip(weights, states, strict=True))
        mean[name] = torch.stack(list(parts)).sum(dim=0).float().contiguous()
    out = Path(out)
    shutil.copytree(folders[0], out, ignore=shutil.ignore_patterns("model.safetensors"))
    save_file(mean, str(out / "model.safetensors"), metadata={"format": "pt"})
    return out
