"""Fit a calibration on judged questions, and measure how far its probabilities can be trusted.

The questions' candidates are those that a first stage really finds. Probabilities of relevance are measured by their
calibration error, Brier skill and a plot; those of an answer by how well they tell answerable questions from others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins._common.plots import new_figure
from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.models.calibration import Calibration, fit_calibration
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import Query
from biorerank_plugins.two_stage import TwoStageSearch

PRECISION = 0.8
_OVERLAP = 0.8  # of the words of the shorter one: from there on two passages say the same


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates of one question with their judgements, in the order of the ranking."""

    values: tuple[float, ...]  # what each was ordered by: its logit, or the value fused with the first stage's
    relevant: tuple[bool, ...]
    repeats: tuple[bool, ...]  # whether each is relevant or gives the answer away, see repeats()


@dataclass(frozen=True, slots=True)
class Answerability:
    """How well "is the answer in this collection?" is told by the best candidate's probability.

    Each question counts twice: with all candidates, and with the evidence taken away (its relevant passages, all
    passages of the same documents, near-duplicates).
    """

    auroc: float
    threshold: float  # from this probability on there is said to be evidence
    precision: float  # share of answerable ones among those said to have evidence
    abstained_with: float  # share of answerable ones that are said to have none
    abstained_without: float  # share of unanswerable ones that are said to have none


def judge(
    search: TwoStageSearch,
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    candidates: int = 100,
    show_progress: bool = False,
) -> list[Judged]:
    """Search and rerank questions that have a relevant passage (a grade above 0), and lay judgements beside logits."""
    whole_number("candidates", candidates)
    judged = []
    with progress_bar(show_progress, total=len(queries), desc="Judging", unit="query") as bar:
        for query in queries:
            relevant = {passage for passage, grade in qrels.get(query.id, {}).items() if grade > 0}
            if relevant:
                told = repeats(relevant, search.index)
                ranking = search.search(query.text, candidates=candidates)
                values = tuple(one.order_value for one in ranking)
                is_relevant = tuple(one.passage.id in relevant for one in ranking)
                judged.append(Judged(values, is_relevant, tuple(told(one.passage) for one in ranking)))
            bar.update()
    return judged


def repeats(relevant: Collection[str], index: SearchableIndex) -> Callable[[Passage], bool]:
    """Return what tells whether a passage is relevant, of the same document as one that is, or has nearly its words."""
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
    """Fit slope, intercept and evidence threshold on questions that the model was not trained on.

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

    :param threshold: measure at this probability instead of the one that ``precision`` chooses (:func:`calibrate`).
    :raises ValueError: if there are no questions.
    """
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    if not judged:
        raise ValueError("There are no judged questions.")

    def best(values: Iterable[float]) -> float:
        return max(map(calibration.probability, values), default=0.0)

    answerable = np.array([best(one.values) for one in judged])
    others = np.array(
        [best(value for value, told in zip(one.values, one.repeats, strict=True) if not told) for one in judged]
    )
    truth, values = np.repeat([1, 0], len(judged)), np.concatenate([answerable, others])
    auroc = float(roc_auc_score(truth, values))
    if threshold is None:
        precisions, _, thresholds = precision_recall_curve(truth, values)
        reached = precisions[:-1] >= precision  # without the point that has no threshold
        # The lowest that is precise enough; the most precise one if none is.
        threshold = float(thresholds[reached.argmax() if reached.any() else precisions[:-1].argmax()])
    said, wrong = int((answerable >= threshold).sum()), int((others >= threshold).sum())
    n = len(judged)
    return Answerability(auroc, threshold, said / max(1, said + wrong), 1 - said / n, 1 - wrong / n)


def reliability_of(judged: Sequence[Judged], calibration: Calibration, depth: int) -> Reliability:
    """Compare a calibration's probabilities with the judgements of each question's first candidates."""
    values, relevant = _flat(judged, depth)
    return reliability([calibration.probability(value) for value in values], relevant)


def _flat(judged: Sequence[Judged], depth: int) -> tuple[list[float], list[bool]]:
    return (
        [value for one in judged for value in one.values[:depth]],
        [value for one in judged for value in one.relevant[:depth]],
    )


@dataclass(frozen=True, slots=True)
class Reliability:
    """What a set of probabilities is worth.

    The expected calibration error is the mean distance between what was said and what was so (Naeini et al. 2015, with
    bins of equal mass as Nguyen and O'Connor 2015 advise).
    """

    n: int
    base_rate: float
    ece: float
    brier: float
    brier_skill: float  # 1 minus brier over that of always saying the base rate; 0 is no skill, 1 perfect
    bins: tuple[tuple[float, float, int], ...]  # mean probability, share of relevant ones, number of each

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types, rounded."""
        rounded = {name: round(getattr(self, name), 4) for name in ("base_rate", "ece", "brier", "brier_skill")}
        return {"n": self.n, **rounded, "bins": [[round(p, 4), round(share, 4), n] for p, share, n in self.bins]}


def reliability(probabilities: Sequence[float], relevant: Sequence[bool], bins: int = 10) -> Reliability:
    """Compare probabilities with what was so, in so many bins of equal mass.

    :raises ValueError: if there is nothing to compare, or only one kind of truth.

    >>> round(reliability([0.1, 0.1, 0.9, 0.9], [False, False, True, True], bins=2).ece, 4)
    0.1
    """
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(relevant, dtype=np.float64)
    if len(p) != len(truth) or not len(p) or truth.min() == truth.max():
        raise ValueError("Reliability needs probabilities of relevant passages and of others.")
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(p))) if len(part)]
    filled = tuple((float(p[part].mean()), float(truth[part].mean()), len(part)) for part in parts)
    ece = sum(n * abs(said - so) for said, so, n in filled) / len(p)
    brier, rate = float(np.mean((p - truth) ** 2)), float(truth.mean())
    return Reliability(len(p), rate, ece, brier, 1 - brier / (rate * (1 - rate)), filled)


def draw_reliability(curves: Mapping[str, Reliability], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw what was said against what was so, one curve each; the format is what the file's name says."""
    figure, (axes,) = new_figure(5.2, 5.0)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for name, curve in curves.items():
        said, so, _ = zip(*curve.bins, strict=True)
        axes.plot(said, so, marker="o", markersize=4, label=f"{name} (ECE {curve.ece:.3f})")
    axes.set(xlabel="probability", ylabel="share of relevant passages", xlim=(0, 1), ylim=(0, 1), title=title)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(os.fspath(path), dpi=120)
