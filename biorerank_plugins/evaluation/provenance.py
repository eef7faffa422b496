"""How numbers were made: versions, models, hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from biorerank_plugins import models
from biorerank_plugins._common.versions import versions
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.reranking.reranker import BioReranker

_PACKAGES = (
    "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s", "ir-measures", "numpy",
)  # fmt: skip


def describe_setup(
    index: SearchableIndex | None, rerankers: Mapping[str, BioReranker], *, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Say how an evaluation was made, as plain JSON types.

    :param rerankers: the rerankers by name, still open.
    """
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "passages": None if index is None else len(index),
        "index": None if index is None else index.factory,
        "encoder": None
        if index is None
        else {"name": index.encoder.model_id, "sha256": index.encoder.content_hash, **_computing(index.encoder)},
        "rerankers": {
            name: {"name": one.model_name, "sha256": _hash(one.model_name), **_computing(one)}
            for name, one in rerankers.items()
        },
        "versions": versions(_PACKAGES),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _hash(name: str) -> str | None:
    """Return the hash of an embedded model or folder; a model of the hub and an object of the caller have none."""
    try:
        folder = resolve_folder(name)
        return None if folder is None else models.content_hash(folder)
    except ModelError:
        return None


def _computing(model: object) -> dict[str, str | None]:
    """Return device and precision of a model, ``None`` where it does not say."""
    for holder in (model, getattr(model, "_scorer", None), getattr(model, "_model", None)):
        device, dtype = (getattr(holder, key, getattr(holder, f"_{key}", None)) for key in ("device", "dtype"))
        if device is not None:
            return {"device": str(device), "dtype": None if dtype is None else str(dtype).removeprefix("torch.")}
    return {"device": None, "dtype": None}
