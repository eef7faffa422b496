"""What a model folder stores for us beside its weights, in ``biorerank.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
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

SETTINGS_FILE = "biorerank.json"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredFusion:
    """How the scores of one first stage enter the order.

    :param quantile: of the logits read so far; with ``effort="auto"`` no other candidate is expected to have a higher
        one. ``None``: that was not measured, and all is read.
    """

    weight: float
    reference: float | None = None  # score that leaves a logit as it is; None for the best of each list
    calibration: Calibration | None = None  # from the sum to a probability; None for the model's own
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class StoredReader:
    """A bi-encoder that reads what a first stage of unknown scale found."""

    encoder: str  # its name or folder; the weight of its inner products is that of the fusion of this name
    rank_weight: float = 0.0  # of -ln(rank) beside it, where the candidates carry scores


class StoredValues:
    """What a reranker's folder stores beside its template; a search must not wait for the disk, so it is read once.

    Each value raises :class:`~biorerank_plugins.errors.ModelError` if the file is damaged. What may stand there::

        {"fusion": {"lexical": 0.5, "my-encoder": {"weight": 12, "reference": 0.6, "calibration": {"slope": 0.8}}},
         "rank_weight": 0.75, "second_reader": {"encoder": "my-encoder", "rank_weight": 0.5},
         "calibration": {"slope": 0.8, "intercept": -2.1, "evidence_threshold": 0.2},
         "evidence": {"passage_weight": 0.3, "calibration": {"slope": 0.8, "intercept": -2}},
         "answering": {"best": 0.9, "second": 0.2, "intercept": -0.3, "answered": 0.5, "nothing": 0.2}}

    :param model: what the reranker was given as ``model``; only an embedded model or a folder can store anything.
    """

    def __init__(self, model: object) -> None:
        self._model = model

    @cached_property
    def _content(self) -> dict[str, Any]:
        return read_stored(self._model)

    @cached_property
    def fusion(self) -> Mapping[str, StoredFusion]:
        """How the scores of first stages enter the order; empty if nothing is stored.

        By the scores it is for: ``"<bi-encoder>"`` for its inner products, ``"hybrid/<bi-encoder>"`` for the fused
        scores that its own folder settles, ``"lexical"`` for BM25.
        """
        weights = self._content.get("fusion", {})
        if not isinstance(weights, dict):
            raise ModelError(
                f"{SETTINGS_FILE}: 'fusion' must map names of first stages to weights, got {weights!r:.80}."
            )
        with _sound():
            return {scores: _fusion_of(value) for scores, value in weights.items()}

    @cached_property
    def rank_weight(self) -> float | None:
        """Weight of the rank that a first stage of unknown scale gives; ``None``: its candidates go by logit."""
        weight = self._content.get("rank_weight")
        with _sound():
            return None if weight is None else finite_number("rank_weight", weight, low=0, high=1e6)

    @cached_property
    def second_reader(self) -> StoredReader | None:
        """The bi-encoder that reads what a first stage of unknown scale found, if one is stored, with its fusion."""
        found = self._object("second_reader", _reader_of)
        if found is None:
            return None
        known = self.fusion.get(found.encoder)
        if known is None or known.reference is None:
            raise ModelError(
                f"{SETTINGS_FILE} is damaged: 'second_reader' names {found.encoder!r}, for which 'fusion' has no "
                "weight with a reference."
            )
        return found

    @cached_property
    def answering(self) -> AnswerModel | None:
        """What tells whether the answer is among the candidates, if that is stored."""
        return self._object("answering", AnswerModel.of)

    @cached_property
    def evidence(self) -> EvidenceModel:
        """What the values of sentences mean; what those of passages do, if nothing is stored."""
        return self._object("evidence", EvidenceModel.of) or EvidenceModel()

    @cached_property
    def calibration(self) -> Calibration:
        """How logits become probabilities; the plain sigmoid unless something is stored."""
        return self._object("calibration", Calibration.of) or Calibration()

    def calibration_for(self, first_stage: str | None) -> Calibration:
        """Return how the value that orders becomes a probability, with a first stage's stored weight or without."""
        own = None if first_stage is None else self.fusion[first_stage].calibration
        return self.calibration if own is None else own

    def read(self) -> None:
        """Read everything now; raise :class:`ModelError` if something is damaged."""
        _ = self.calibration, self.fusion, self.rank_weight, self.second_reader, self.answering, self.evidence

    def _object(self, name: str, read: Callable[[dict[str, Any]], _T]) -> _T | None:
        """Return what one of the objects in the file says; ``None`` if it is not there."""
        values = self._content.get(name)
        if values is None:
            return None
        if not isinstance(values, dict):
            raise ModelError(f"{SETTINGS_FILE} is damaged: {name!r} must be an object, got {values!r:.80}.")
        with _sound():
            return read(values)


@contextmanager
def _sound() -> Iterator[None]:
    try:
        yield
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


def _reader_of(values: dict[str, Any]) -> StoredReader:
    if unknown := values.keys() - {one.name for one in fields(StoredReader)}:
        raise ValueError(f"a second reader has no {sorted(unknown)[0]!r}.")
    encoder = values.get("encoder")
    if not isinstance(encoder, str):
        raise ValueError(f"the encoder of 'second_reader' must be a name, got {encoder!r:.80}.")
    return StoredReader(encoder, finite_number("rank_weight", values.get("rank_weight", 0.0), low=0, high=1e6))


def store_calibration(folder: str | os.PathLike[str], calibration: Calibration, first_stage: str | None = None) -> None:
    """Write a calibration into a reranker's folder, beside what else is stored there.

    :param first_stage: the first stage with whose stored weight it was fitted; ``None`` for logits alone.
    """
    content = read_stored(folder)
    if first_stage is None:
        content["calibration"] = calibration.to_dict()
    else:
        own = StoredValues(folder).fusion[first_stage]
        before = content["fusion"][first_stage]
        kept = before if isinstance(before, dict) else {"weight": own.weight, "reference": own.reference}
        content["fusion"] = {**content["fusion"], first_stage: {**kept, "calibration": calibration.to_dict()}}
    write_json(Path(folder) / SETTINGS_FILE, content)


def stored_template(model: object) -> str | None:
    """Return how the passages that a reranker was trained on were written (``"{title}. {text}"``), if it is stored."""
    template = read_stored(model).get("template")
    with _sound():
        return None if template is None else str(check_template(template))


def read_stored(model: object) -> dict[str, Any]:
    """Return all that a model's folder stores for us; raise :class:`ModelError` if the file is damaged.

    :param model: an embedded model (``None``: the default reranker) or a folder; anything else stores nothing.
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
