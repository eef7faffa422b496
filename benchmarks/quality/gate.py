"""Quality of a way to compute: whether it ranks as fp32 ``CrossEncoder.predict`` does, on judged questions.

A path may be fast only as long as what it ranks stays the same up to a tolerance. Candidates are handed over in another
order than they were found in, so that a score that depends on its place shows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.evaluation.lists import Orderer
from biorerank_plugins.evaluation.metrics import Qrels, measure_run, run_from_order
from biorerank_plugins.speed.rerankers import logits_in_order
from biorerank_plugins.text.templates import DEFAULT_TEMPLATE, Template, passage_text

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.passages import Candidate
    from biorerank_plugins.reranking.reranker import BioReranker

__all__ = ["Asked", "Moves", "PathQuality", "compare_path", "neighbour_moves", "path_logits", "reference_logits"]

MEASURE = "nDCG@10"
_TOP = 10

Logits = Mapping[str, Mapping[str, float]]
"""For each question the logit of each passage, by id."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what the first stage found.

    :param id: its name in the judgements.
    :param text: the question.
    :param candidates: in the order of the first stage, with its scores.
    """

    id: str
    text: str
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Moves:
    """How much a logit moves when other pairs are scored beside it.

    :param pairs: that were compared.
    :param together: largest and mean move, from a request of its question alone to one batch stream of all questions.
    :param alone: largest and mean move, from a request of its question to a request of this pair only.
    """

    pairs: int
    together: tuple[float, float]
    alone: tuple[float, float]


@dataclass(frozen=True, slots=True)
class PathQuality:
    """How far a path is from the reference.

    :param pairs: that were scored.
    :param largest: difference of a logit.
    :param of_99: of 100 logits 99 differ by no more.
    :param mean: difference of a logit.
    :param ndcg: mean nDCG@10 in the order of the path's logits.
    :param delta: to that of the reference's logits.
    :param fused_delta: the same in the default order, with the first stage's scores.
    :param changed: questions whose ten best are other passages, in the order of logits.
    """

    pairs: int
    largest: float
    of_99: float
    mean: float
    ndcg: float
    delta: float
    fused_delta: float
    changed: int

    def within(self, tolerance: float) -> bool:
        """Return whether neither order is further from the reference than ``tolerance`` of nDCG@10."""
        return max(abs(self.delta), abs(self.fused_delta)) <= tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self)


def reference_logits(
    model: CrossEncoder, asked: Sequence[Asked], *, template: Template = DEFAULT_TEMPLATE, batch_size: int = 32
) -> dict[str, dict[str, float]]:
    """Return the logits of ``CrossEncoder.predict``.

    :param model: in fp32.
    :param asked: the questions.
    :param template: how a passage becomes text, as in the reranker that is compared.
    :param batch_size: pairs a batch.
    """
    import torch

    found = {}
    for one in asked:
        pairs: Any = [(one.text, passage_text(candidate.passage, template)) for candidate in one.candidates]
        logits = model.predict(pairs, batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        found[one.id] = _by_id(one.candidates, logits)
    return found


def path_logits(reranker: BioReranker, asked: Sequence[Asked], *, seed: int | None = 0) -> dict[str, dict[str, float]]:
    """Return the logits of a reranker, question by question.

    :param reranker: without windows, as the reference reads no windows.
    :param asked: the questions.
    :param seed: of the order in which candidates are handed over; ``None`` for that of the first stage.
    """
    found = {}
    for one in asked:
        candidates = list(one.candidates)
        if seed is not None:
            random.Random(f"{seed}/{one.id}").shuffle(candidates)
        ranking = reranker.rank(one.text, candidates, fusion=None)
        found[one.id] = _by_id(candidates, logits_in_order(ranking))
    return found


def _by_id(candidates: Sequence[Candidate], logits: Any) -> dict[str, float]:
    return {candidate.passage.id: float(logit) for candidate, logit in zip(candidates, logits, strict=True)}


def compare_path(
    asked: Sequence[Asked], qrels: Qrels, reference: Logits, path: Logits, *, fusion: float | None
) -> PathQuality:
    """Compare the logits of a path with those of the reference.

    :param asked: the questions.
    :param qrels: judgements of these questions.
    :param reference: logits of the reference.
    :param path: logits of the path.
    :param fusion: weight of the first stage's scores in the default order; ``None`` if it is by logit.
    """
    differences = np.abs(
        [path[one.id][id_] - logit for one in asked for id_, logit in reference[one.id].items()], dtype=np.float64
    )
    judged = {one.id: qrels[one.id] for one in asked if qrels.get(one.id)}
    by_logit, expected = (_order(asked, logits, None) for logits in (path, reference))
    fused, expected_fused = (_order(asked, logits, fusion) for logits in (path, reference))
    ndcg = _ndcg(by_logit, judged)
    return PathQuality(
        pairs=len(differences),
        largest=float(differences.max()),
        of_99=float(np.quantile(differences, 0.99)),
        mean=float(differences.mean()),
        ndcg=ndcg,
        delta=ndcg - _ndcg(expected, judged),
        fused_delta=_ndcg(fused, judged) - _ndcg(expected_fused, judged),
        changed=sum(set(by_logit[one.id][:_TOP]) != set(expected[one.id][:_TOP]) for one in asked),
    )


def _order(asked: Sequence[Asked], logits: Logits, fusion: float | None) -> dict[str, list[str]]:
    orderer = Orderer()
    return {one.id: orderer.order(one.text, one.candidates, logits[one.id], fusion) for one in asked}


def _ndcg(order: Mapping[str, Sequence[str]], qrels: Qrels) -> float:
    return measure_run(run_from_order(order), qrels, [MEASURE]).means[MEASURE]


def neighbour_moves(reranker: BioReranker, asked: Sequence[Asked], *, alone: int = 10) -> Moves:
    """Score the same pairs beside others, and measure how much their logits move.

    :param reranker: without windows.
    :param asked: some questions.
    :param alone: so many pairs of each question are scored by themselves as well.
    """
    by_question = path_logits(reranker, asked, seed=None)
    rankings = reranker.rank_many([(one.text, one.candidates) for one in asked], fusion=None)
    together = {
        one.id: _by_id(one.candidates, logits_in_order(ranking)) for one, ranking in zip(asked, rankings, strict=True)
    }
    single = {
        one.id: {
            candidate.passage.id: reranker.rank(one.text, [candidate], fusion=None)[0].logit
            for candidate in one.candidates[:alone]
        }
        for one in asked
    }
    pairs = sum(len(logits) for logits in by_question.values())
    return Moves(pairs, _moved(by_question, together), _moved(by_question, single))


def _moved(before: Logits, after: Logits) -> tuple[float, float]:
    moves = np.abs([after[q][id_] - before[q][id_] for q in after for id_ in after[q]], dtype=np.float64)
    return float(moves.max()), float(moves.mean())
