"""A caller's ``torch.autocast``, as notebooks and trainers leave it on, changes nothing of what the models compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biorerank_plugins import BiEncoder, BioReranker

TEXTS = ["p53 suppresses tumours.", "aspirin inhibits platelets.", "metformin lowers glucose. " * 20]


def _model(kind: str, folder: Path) -> Any:
    if kind != "object":
        return folder
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("kind", ["packed", "torch", "object"])
def test_logits_are_those_of_a_call_outside(tiny_cross_encoder_dir: Path, kind: str):
    import torch

    backend = "auto" if kind == "object" else kind
    with BioReranker(_model(kind, tiny_cross_encoder_dir), device="cpu", dtype="float32", backend=backend) as reranker:
        outside = [line.logit for line in reranker.rank("does p53 suppress tumours?", TEXTS)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = [line.logit for line in reranker.rank("does p53 suppress tumours?", TEXTS)]
    assert inside == outside


def test_vectors_are_those_of_a_call_outside(tiny_encoder_dir: Path):
    import torch

    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    outside = encoder.encode_queries(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(encoder.encode_queries(TEXTS), outside)
