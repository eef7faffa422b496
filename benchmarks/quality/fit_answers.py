"""Fit what tells "answered", "not sure" and "nothing" apart, and what the value of an evidence sentence means.

Called by ``fit_stored.py``; everything is fitted on the BioASQ calibration questions. A question counts as answerable
with its candidates as they are found, and as unanswerable with its relevant passages and all that repeat them taken
away; questions of the general domain (SelQA) are unanswerable as they are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.common import read_rows
from benchmarks.quality.tasks import Task, joined
from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.evaluation.calibrate import repeats
from biorerank_plugins.models.answering import AnswerModel, EvidenceModel, relevance_features
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.reranking.readings import readings
from biorerank_plugins.text.sentences import split_sentences
from biorerank_plugins.text.windows import Span

OFF_TOPIC = 60  # questions
WITHHELD_UNSURE = 0.03  # of the answerable questions: not sure or nothing
WITHHELD_NOTHING = 0.005  # nothing
UNQUOTED = 0.04  # of the relevant sentences: below the threshold
CANDIDATES = 50  # of a question of another domain
SEED = 31
TOP = 5
Values = Mapping[str, Mapping[str, float]]


def off_topic_questions(data: Path) -> list[str]:
    questions = sorted({row["question"] for row in read_rows(data / "selqa/indoc.jsonl.gz")})
    return random.Random(SEED).sample(questions, OFF_TOPIC)


def cases(values: Values, task: Task, index: PassageIndex, calibration: Calibration) -> Iterator[tuple[Any, bool]]:
    """Features of each question with its evidence and without, where the first stage found any."""
    for query, own in values.items():
        relevant = {passage for passage, grade in task.qrels[query].items() if grade > 0}
        told = repeats(relevant, index)
        kept = {p: v for p, v in own.items() if p not in relevant and not told(_passage(index, p))}
        if len(kept) < len(own) and kept and relevant & own.keys():
            yield _features(own.values(), calibration), True
            yield _features(kept.values(), calibration), False


def _passage(index: PassageIndex, id_: str) -> Any:
    passage = index.get(id_)
    assert passage is not None
    return passage


def _features(values: Any, calibration: Calibration) -> tuple[float, ...]:
    return relevance_features([calibration.log_odds(value) for value in values])


def off_topic_features(
    questions: Sequence[str], index: PassageIndex, reranker: BioReranker, calibration: Calibration
) -> Iterator[tuple[Any, bool]]:
    """Features of questions of another domain; ordered by logit."""
    lists = index.search_many(list(questions), CANDIDATES)
    for ranking in reranker.rank_many(list(zip(questions, lists, strict=True)), fusion=None):
        yield _features([ranked.logit for ranked in ranking], calibration), False


def fit_answering(found: Sequence[tuple[Any, bool]]) -> tuple[AnswerModel, dict[str, Any]]:
    """Fit the logistic model and its two limits.

    :param found: features, and whether the answer is there.
    :returns: the model, and how good it is on what it was fitted on (three parameters on hundreds of questions).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    features, there = np.array([one for one, _ in found]), np.array([label for _, label in found])
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(features, there)
    probability = fitted.predict_proba(features)[:, 1]
    answered, nothing = np.quantile(probability[there], [WITHHELD_UNSURE, WITHHELD_NOTHING])
    weights = dict(zip(("best", "second"), map(_rounded, fitted.coef_[0]), strict=True))
    model = AnswerModel(
        **weights, intercept=_rounded(fitted.intercept_[0]), answered=_rounded(answered), nothing=_rounded(nothing)
    )
    return model, {
        "cases": len(there),
        "auroc": _rounded(roc_auc_score(there, probability)),
        "not answered, with evidence": _rounded((probability[there] < answered).mean()),
        "not answered, without": _rounded((probability[~there] < answered).mean()),
        "nothing, without": _rounded((probability[~there] < nothing).mean()),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def sentence_values(
    reranker: BioReranker, query: str, text: str, spans: Sequence[Span], title: str | None
) -> tuple[list[float], float]:
    """The value of each sentence before a share of the passage is added, and the logit of the passage."""
    read = readings(query, text, spans, title)
    asked = [*(one for texts in read for one in texts), text]
    logits = {ranked.input_index: ranked.logit for ranked in reranker.rank(query, asked, fusion=None)}
    in_order = iter(logits[place] for place in range(len(asked)))
    values = [fmean(next(in_order) for _ in texts) for texts in read]
    return values, next(in_order)


def fit_evidence(
    data: Path, values: Values, task: Task, index: PassageIndex, reranker: BioReranker, cache: Path
) -> tuple[EvidenceModel, dict[str, Any]]:
    """Fit the share of the passage and the probability of a sentence.

    Two kinds of sentences: those of whole abstracts, labelled one by one, with the abstract's logit; and those of the
    first passages of each question, which are relevant where the passage is, with the value that orders the passage.
    """
    from sklearn.linear_model import LogisticRegression

    if not cache.exists():
        cache.write_text(json.dumps([*_of_abstracts(data, reranker), *_of_passages(values, task, index, reranker)]))
    rows = json.loads(cache.read_text())
    pairs = np.array([[logit, value] for _, own, value in rows for logit, _ in own])
    labels = np.array([label for _, own, _ in rows for _, label in own])
    slope, passage = LogisticRegression(C=np.inf, max_iter=1000).fit(pairs, labels).coef_[0]
    weight = _rounded(max(0.0, passage / slope))
    summed = (pairs[:, 0] + weight * pairs[:, 1])[:, None]
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(summed, labels)
    calibration = Calibration(_rounded(fitted.coef_[0][0]), _rounded(fitted.intercept_[0]))
    relevant = [calibration.probability(value) for (value,), label in zip(summed, labels, strict=True) if label]
    threshold = _rounded(np.quantile(relevant, UNQUOTED))
    model = EvidenceModel(weight, Calibration(calibration.slope, calibration.intercept, threshold))
    return model, {"sentences": len(labels), "relevant": int(labels.sum())}


def _of_abstracts(data: Path, reranker: BioReranker) -> Iterator[Any]:
    questions = {row["id"]: row["question"] for row in read_rows(data / "bioasq/calib.jsonl.gz")}
    for number, row in enumerate(read_rows(data / "bioasq/indoc.calib.jsonl.gz")):
        sentences = [sentence["text"] for sentence in row["sentences"]]
        text, spans = joined(sentences)
        logits, whole = sentence_values(reranker, questions[row["qid"]], text, spans, None)
        labels = [int(sentence["label"]) for sentence in row["sentences"]]
        yield f"abstract {number}", list(zip(logits, labels, strict=True)), whole


def _of_passages(values: Values, task: Task, index: PassageIndex, reranker: BioReranker) -> Iterator[Any]:
    for query, own in values.items():
        for id_ in sorted(own, key=lambda p: -own[p])[:TOP]:
            passage = _passage(index, id_)
            label = int(task.qrels[query].get(id_, 0) > 0)
            spans = split_sentences(passage.text)
            logits, _ = sentence_values(reranker, task.queries[query], passage.text, spans, passage.title)
            # Of a relevant passage with several sentences the best is the one that made it relevant.
            kept = [max(logits)] if label else logits
            yield query, [(logit, label) for logit in kept], own[id_]
