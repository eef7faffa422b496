"""Fit a calibration on judged questions: the candidates that a first stage really finds, and their judgements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.evaluation.reliability import Reliability, reliability
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.models.calibration import Calibration, fit_calibration
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import Query
from biorerank_plugins.two_stage import TwoStageSearch

PRECISION = 0.8
_OVERLAP = 0.8  # of the words of the shorter one: from there on two passages say the same


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates of one question with their judgements, in the order of the ranking.

    :param values: what each was ordered by: its logit, or the value fused with the first stage's.
    :param relevant: whether each is judged relevant.
    :param repeats: whether each is relevant, of the same document as a relevant passage, or nearly the same text.
    """

    values: tuple[float, ...]
    relevant: tuple[bool, ...]
    repeats: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Answerability:
    """How well "is the answer in this collection?" is told by the best candidate's probability.

    Each question counts twice: with all candidates, and with the evidence taken away (its relevant passages, all
    passages of the same documents, near-duplicates).

    :param auroc: area under the ROC curve; 0.5 is chance.
    :param threshold: from this probability on there is said to be evidence.
    :param precision: share of answerable ones among those said to have evidence.
    :param abstained_with: share of answerable ones that are said to have none.
    :param abstained_without: share of unanswerable ones that are said to have none.
    """

    auroc: float
    threshold: float
    precision: float
    abstained_with: float
    abstained_without: float


def judge(
    search: TwoStageSearch,
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    candidates: int = 100,
    show_progress: bool = False,
) -> list[Judged]:
    """Search and rerank judged questions, and lay judgements beside the logits.

    :param queries: questions; those without a relevant passage are left out.
    :param qrels: question id ► passage id ► grade; a grade above 0 is relevant, a passage without one is not.
    :param candidates: candidates a question.
    """
    whole_number("candidates", candidates)
    judged = []
    with progress_bar(show_progress, total=len(queries), desc="Judging", unit="query") as bar:
        for query in queries:
            relevant = {passage for passage, grade in qrels.get(query.id, {}).items() if grade > 0}
            if relevant:
                told = repeats(relevant, search.index)
                ranking = search.search(query.text, candidates=candidates)
                judged.append(
                    Judged(
                        tuple(one.order_value for one in ranking),
                        tuple(one.passage.id in relevant for one in ranking),
                        tuple(told(one.passage) for one in ranking),
                    )
                )
            bar.update()
    return judged


def repeats(relevant: Collection[str], index: SearchableIndex) -> Callable[[Passage], bool]:
    """Return what tells whether a passage gives a question's answer away, judged or not.

    :returns: true for a relevant passage, one of the same document as one, or one with nearly the same words.
    """
    gold = [passage for id_ in relevant if (passage := index.get(id_)) is not None]
    documents = {key for passage in gold if (key := _document(passage))}
    words = [frozenset(passage.text.lower().split()) for passage in gold]

    def told(passage: Passage) -> bool:
        own = frozenset(passage.text.lower().split())
        return (
            passage.id in relevant
            or _document(passage) in documents
            or any(len(own & other) >= _OVERLAP * max(1, min(len(own), len(other))) for other in words)
        )

    return told


def _document(passage: Passage) -> str:
    return DEFAULT_KEYS.pmid_of(passage) or DEFAULT_KEYS.doi_of(passage) or str(passage.metadata.get("document") or "")


def calibrate(judged: Sequence[Judged], *, depth: int = 10, precision: float = PRECISION) -> Calibration:
    """Fit slope, intercept and evidence threshold.

    :param judged: what :func:`judge` returned for questions that the model was not trained on.
    :param depth: fit on so many of each question's first candidates: the ones that users see.
    :param precision: the threshold is the lowest at which at least this share of the questions that are said to have
        evidence do have it, when half of all questions do.
    :raises ValueError: if there is nothing to fit.
    """
    whole_number("depth", depth)
    finite_number("precision", precision, low=0, high=1)
    fitted = fit_calibration(*_flat(judged, depth))
    return replace(fitted, evidence_threshold=answerability(judged, fitted, precision=precision).threshold)


def answerability(
    judged: Sequence[Judged], calibration: Calibration, *, precision: float = PRECISION, threshold: float | None = None
) -> Answerability:
    """Measure how well the best candidate's probability tells answerable questions from others.

    :param precision: see :func:`calibrate`.
    :param threshold: measure at this probability instead of choosing one.
    :raises ValueError: if there are no questions.
    """
    from sklearn.metrics import roc_auc_score

    if not judged:
        raise ValueError("There are no judged questions.")

    def best(values: Iterable[float]) -> float:
        return max(map(calibration.probability, values), default=0.0)

    answerable = np.array([best(one.values) for one in judged])
    others = np.array(
        [best(value for value, told in zip(one.values, one.repeats, strict=True) if not told) for one in judged]
    )
    truth = np.repeat([1, 0], len(judged))
    auroc = float(roc_auc_score(truth, np.concatenate([answerable, others])))
    if threshold is None:
        threshold = _threshold(answerable, others, precision)
    said, wrong = int((answerable >= threshold).sum()), int((others >= threshold).sum())
    n = len(judged)
    return Answerability(auroc, threshold, said / max(1, said + wrong), 1 - said / n, 1 - wrong / n)


def _threshold(answerable: Any, others: Any, precision: float) -> float:
    """Return the lowest probability that gives the precision; the most precise one if none does."""
    best = (-1.0, 1.0)
    for value in sorted({*answerable.tolist(), *others.tolist()}):
        said, wrong = (answerable >= value).sum(), (others >= value).sum()
        reached = float(said / (said + wrong))
        if reached >= precision:
            return float(value)
        best = max(best, (reached, -float(value)))
    return -best[1]


def reliability_of(judged: Sequence[Judged], calibration: Calibration, depth: int) -> Reliability:
    """Compare a calibration's probabilities with the judgements.

    :param depth: look at so many of each question's first candidates.
    :raises ValueError: if there are only relevant passages, or none.
    """
    values, relevant = _flat(judged, depth)
    return reliability([calibration.probability(value) for value in values], relevant)


def _flat(judged: Sequence[Judged], depth: int) -> tuple[list[float], list[bool]]:
    return (
        [value for one in judged for value in one.values[:depth]],
        [value for one in judged for value in one.relevant[:depth]],
    )
