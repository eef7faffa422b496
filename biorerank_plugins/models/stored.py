"""What a model folder stores for us beside its weights, in ``biorerank.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from biorerank_plugins import models
from biorerank_plugins._common.checks import finite_number
from biorerank_plugins._common.files import write_json
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.answering import AnswerModel, EvidenceModel
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.text.templates import check_template

__all__ = [
    "SETTINGS_FILE",
    "StoredFusion",
    "StoredReader",
    "read_stored",
    "store_calibration",
    "stored_answering",
    "stored_calibration",
    "stored_evidence",
    "stored_fusion",
    "stored_rank_weight",
    "stored_second_reader",
    "stored_template",
]

SETTINGS_FILE = "biorerank.json"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredFusion:
    """How the scores of one first stage enter the order.

    :param weight: of its score beside the logit.
    :param reference: score that leaves a logit as it is; ``None`` for the best of each list.
    :param calibration: from the sum to a probability; ``None`` for the model's own.
    :param quantile: of the logits read so far; with ``effort="auto"`` no other candidate is expected to have a higher
        one. ``None``: that was not measured, and all is read.
    """

    weight: float
    reference: float | None = None
    calibration: Calibration | None = None
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class StoredReader:
    """A bi-encoder that reads what a first stage of unknown scale found.

    :param encoder: its name or folder; the weight of its inner products is that of the fusion of this name.
    :param rank_weight: weight of ``-ln(rank)`` beside it, where the candidates carry scores.
    """

    encoder: str
    rank_weight: float = 0.0


def stored_fusion(model: object) -> Mapping[str, StoredFusion]:
    """Return the fusion weights that a reranker's folder stores.

    ::

        {"fusion": {"lexical": 0.5, "my-encoder": {"weight": 12, "reference": 0.6, "calibration": {"slope": 0.8}}}}

    :param model: what the reranker was given as ``model``; only an embedded model or a folder can store anything.
    :returns: by the scores it is for: ``"<bi-encoder>"`` for its inner products, ``"hybrid/<bi-encoder>"`` for
        the fused scores that its own folder settles, ``"lexical"`` for BM25; empty if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    weights = read_stored(model).get("fusion", {})
    if not isinstance(weights, dict):
        raise ModelError(f"{SETTINGS_FILE}: 'fusion' must map names of first stages to weights, got {weights!r:.80}.")
    try:
        return {scores: _fusion_of(value) for scores, value in weights.items()}
    except (TypeError, ValueError) as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def _fusion_of(value: Any) -> StoredFusion:
    if not isinstance(value, dict):
        return StoredFusion(finite_number("fusion", value, low=0, high=1e6))
    if unknown := value.keys() - {one.name for one in fields(StoredFusion)}:
        raise ValueError(f"a fusion has no {sorted(unknown)[0]!r}.")
    reference, calibration, quantile = (value.get(name) for name in ("reference", "calibration", "quantile"))
    return StoredFusion(
        finite_number("weight", value.get("weight"), low=0, high=1e6),
        None if reference is None else finite_number("reference", reference),
        None if calibration is None else Calibration.of(calibration),
        None if quantile is None else finite_number("quantile", quantile, low=0, high=1),
    )


def stored_rank_weight(model: object) -> float | None:
    """Return the weight of the rank that a first stage of unknown scale gives, as a reranker's folder says.

    ::

        {"rank_weight": 0.75}

    :param model: as in :func:`stored_fusion`.
    :returns: ``None`` if nothing is stored: such candidates are ordered by logit.
    :raises ModelError: if the file is damaged.
    """
    weight = read_stored(model).get("rank_weight")
    try:
        return None if weight is None else finite_number("rank_weight", weight, low=0, high=1e6)
    except ValueError as error:
        raise ModelError(f"{SETTINGS_FILE} is damaged: {error}") from error


def stored_second_reader(model: object) -> StoredReader | None:
    """Return the bi-encoder that reads what a first stage of unknown scale found, as a reranker's folder says.

    ::

        {"second_reader": {"encoder": "my-encoder", "rank_weight": 0.5}, "fusion": {"my-encoder": 12}}

    :param model: as in :func:`stored_fusion`.
    :returns: ``None`` if nothing is stored.
    :raises ModelError: if the file is damaged, or stores no fusion for this bi-encoder.
    """
    values = _object(model, "second_reader")
    if values is None:
        return None
    found = _sound(_reader_of, values)
    known = stored_fusion(model).get(found.encoder)
    if known is None or known.reference is None:
        raise ModelError(
            f"{SETTINGS_FILE} is damaged: 'second_reader' names {found.encoder!r}, for which 'fusion' has no weight "
            "with a reference."
        )
    return found


def _reader_of(values: dict[str, Any]) -> StoredReader:
    if unknown := values.keys() - {"encoder", "rank_weight"}:
        raise ValueError(f"a second reader has no {sorted(unknown)[0]!r}.")
    if not isinstance(values.get("encoder"), str):
        raise ValueError(f"the encoder of 'second_reader' must be a name, got {values.get('encoder')!r:.80}.")
    return StoredReader(
        values["encoder"], finite_number("rank_weight", values.get("rank_weight", 0.0), low=0, high=1e6)
    )


def stored_answering(model: object) -> AnswerModel | None:
    """Return what tells whether the answer is among candidates, as a reranker's folder says.

    ::

        {"answering": {"best": 0.9, "second": 0.2, "intercept": -0.3, "answered": 0.5, "nothing": 0.2}}

    :param model: as in :func:`stored_fusion`.
    :returns: ``None`` if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    values = _object(model, "answering")
    return None if values is None else _sound(AnswerModel.of, values)


def stored_evidence(model: object) -> EvidenceModel:
    """Return what the values of sentences mean, as a reranker's folder says.

    ::

        {"evidence": {"passage_weight": 0.3, "calibration": {"slope": 0.8, "intercept": -2}}}

    :param model: as in :func:`stored_fusion`.
    :returns: the values of passages if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    values = _object(model, "evidence")
    return EvidenceModel() if values is None else _sound(EvidenceModel.of, values)


def stored_calibration(model: object) -> Calibration:
    """Return how a reranker's logits become probabilities, as its folder says.

    ::

        {"calibration": {"slope": 0.8, "intercept": -2.1, "evidence_threshold": 0.2}}

    :param model: as in :func:`stored_fusion`.
    :returns: the plain sigmoid if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    return _sound(Calibration.of, _object(model, "calibration") or {})


def store_calibration(folder: str | os.PathLike[str], calibration: Calibration, first_stage: str | None = None) -> None:
    """Write a calibration into a reranker's folder, beside what else is stored there.

    :param folder: the model's folder.
    :param calibration: what to store.
    :param first_stage: the first stage with whose stored weight it was fitted; ``None`` for logits alone.
    :raises ModelError: if the folder holds no model, or what is stored there is damaged.
    """
    content = read_stored(folder)
    if first_stage is None:
        content["calibration"] = calibration.to_dict()
    else:
        own = stored_fusion(folder)[first_stage]
        before = content["fusion"][first_stage]
        kept = before if isinstance(before, dict) else {"weight": own.weight, "reference": own.reference}
        content["fusion"] = {**content["fusion"], first_stage: {**kept, "calibration": calibration.to_dict()}}
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


def _object(model: object, name: str) -> dict[str, Any] | None:
    """Return one of the objects in the file; ``None`` if it is not there."""
    values = read_stored(model).get(name)
    if values is not None and not isinstance(values, dict):
        raise ModelError(f"{SETTINGS_FILE} is damaged: {name!r} must be an object, got {values!r:.80}.")
    return values


def _sound(read: Callable[[dict[str, Any]], _T], values: dict[str, Any]) -> _T:
    try:
        return read(values)
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
