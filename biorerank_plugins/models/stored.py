"""What a model folder stores for us beside its weights, in ``biorerank.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biorerank_plugins import models
from biorerank_plugins._common.checks import finite_number
from biorerank_plugins._common.files import write_json
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.text.templates import check_template

__all__ = [
    "SETTINGS_FILE",
    "read_stored",
    "store_calibration",
    "stored_calibration",
    "stored_fusion",
    "stored_template",
]

SETTINGS_FILE = "biorerank.json"


def stored_fusion(model: object) -> Mapping[str, float]:
    """Return the fusion weights that a reranker's folder stores.

    :param model: what the reranker was given as ``model``; only an embedded model or a folder can store anything.
    :returns: weight by the scores it is for: ``"<bi-encoder>"`` for its inner products, ``"hybrid/<bi-encoder>"`` for
        the fused scores that its own folder settles, ``"lexical"`` for BM25; empty if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    weights = read_stored(model).get("fusion", {})
    if not isinstance(weights, dict):
        raise ModelError(f"{SETTINGS_FILE}: 'fusion' must map names of first stages to weights, got {weights!r:.80}.")
    try:
        return {scores: finite_number("fusion", weight, low=0, high=1e6) for scores, weight in weights.items()}
    except ValueError as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def stored_calibration(model: object) -> Calibration:
    """Return how a reranker's logits become probabilities, as its folder says.

    ::

        {"calibration": {"slope": 0.8, "intercept": -2.1, "per_log_window": -0.3, "evidence_threshold": 0.2}}

    :param model: as in :func:`stored_fusion`.
    :returns: the plain sigmoid if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    values = read_stored(model).get("calibration", {})
    try:
        if not isinstance(values, dict):
            raise ValueError(f"'calibration' must be an object, got {values!r:.80}.")
        return Calibration.of(values)
    except ValueError as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def store_calibration(folder: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration into a reranker's folder, beside what else is stored there.

    :param folder: the model's folder.
    :param calibration: what to store.
    :raises ModelError: if the folder holds no model, or what is stored there is damaged.
    """
    content = {**read_stored(folder), "calibration": calibration.to_dict()}
    write_json(Path(folder) / SETTINGS_FILE, content)


def stored_template(model: object) -> str | None:
    """Return how the passages that a reranker was trained on were written, as its folder says.

    ::

        {"template": "{title}. {text}"}

    :param model: as in :func:`stored_fusion`.
    :returns: ``None`` if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    template = read_stored(model).get("template")
    try:
        return None if template is None else str(check_template(template))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def read_stored(model: object) -> dict[str, Any]:
    """Return all that a model's folder stores for us.

    :param model: an embedded model (``None``: the default reranker) or a folder; anything else stores nothing.
    :raises ModelError: if the file is damaged.
    """
    if model is not None and not isinstance(model, (str, os.PathLike)):
        return {}
    folder = resolve_folder(models.DEFAULT_RERANKER if model is None else model)
    path = None if folder is None else folder / SETTINGS_FILE
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: expected a JSON object.")
    return content
