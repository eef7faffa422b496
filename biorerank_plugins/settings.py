"""What a model folder stores for us beside its weights, in ``biorerank.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from biorerank_plugins import models
from biorerank_plugins.checks import finite_number
from biorerank_plugins.errors import ModelError
from biorerank_plugins.scoring.loading import resolve_folder

__all__ = ["SETTINGS_FILE", "stored_fusion"]

SETTINGS_FILE = "biorerank.json"


def stored_fusion(model: object) -> Mapping[str, float]:
    """Return the fusion weights that a reranker's folder stores.

    :param model: what the reranker was given as ``model``; only an embedded model or a folder can store anything.
    :returns: weight by name of the bi-encoder whose scores it is for; empty if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    weights = _read(model).get("fusion", {})
    if not isinstance(weights, dict):
        raise ModelError(f"{SETTINGS_FILE}: 'fusion' must map names of bi-encoders to weights, got {weights!r:.80}.")
    try:
        return {encoder: finite_number("fusion", weight, low=0, high=1e6) for encoder, weight in weights.items()}
    except ValueError as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def _read(model: object) -> dict[str, Any]:
    if model is not None and not isinstance(model, (str, os.PathLike)):
        return {}
    folder = resolve_folder(models.DEFAULT_RERANKER if model is None else model)
    path = None if folder is None else folder / SETTINGS_FILE
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: expected a JSON object.")
    return content
