"""What is stored with a reranker's model beside its weights, read once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from biorerank_plugins.models.answering import AnswerModel, EvidenceModel
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.models.stored import (
    StoredFusion,
    stored_answering,
    stored_calibration,
    stored_evidence,
    stored_fusion,
    stored_rank_weight,
)


class StoredValues:
    """Calibration and fusion of a model; a search must not wait for the disk, so each is read once.

    :param model: what the reranker was given as ``model``.
    """

    def __init__(self, model: object) -> None:
        self._model = model

    @cached_property
    def calibration(self) -> Calibration:
        """How logits become probabilities; the plain sigmoid unless something is stored."""
        return stored_calibration(self._model)

    @cached_property
    def fusion(self) -> Mapping[str, StoredFusion]:
        """How the scores of first stages enter the order, by their names."""
        return stored_fusion(self._model)

    @cached_property
    def rank_weight(self) -> float | None:
        """Weight of the rank that a first stage of unknown scale gives."""
        return stored_rank_weight(self._model)

    @cached_property
    def answering(self) -> AnswerModel | None:
        """What tells whether the answer is among the candidates."""
        return stored_answering(self._model)

    @cached_property
    def evidence(self) -> EvidenceModel:
        """What the values of sentences mean."""
        return stored_evidence(self._model)

    def calibration_for(self, first_stage: str | None) -> Calibration:
        """Return how the value that orders becomes a probability.

        :param first_stage: whose stored weight is used; ``None`` if none is.
        """
        own = None if first_stage is None else self.fusion[first_stage].calibration
        return self.calibration if own is None else own

    def read(self) -> None:
        """Read everything now.

        :raises ModelError: if what is stored is damaged.
        """
        _ = self.calibration, self.fusion, self.rank_weight, self.answering, self.evidence
