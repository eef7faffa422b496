"""Dev lists: what a model in training is measured on, and what early stopping looks at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.training.rows import normalised, read_rows, shared_questions

DEV_MEASURES = ("nDCG@10", "AP", "RR@10")
"""Names as ``ir_measures`` writes them; the mean of ``AP`` is known as MAP, that of ``RR@10`` as MRR@10."""


@dataclass(frozen=True, slots=True)
class DevSet:
    """Questions, each with a list of passages to put in order, and all judgements; passages in no list are missed."""

    name: str  # in the card
    lists: Mapping[str, tuple[str, Sequence[tuple[str, str]]]]  # question id ► (question, [(passage id, text), …])
    qrels: Mapping[str, Mapping[str, int]]

    @property
    def questions(self) -> list[str]:
        """The questions' texts."""
        return [text for text, _ in self.lists.values()]

    def content_hash(self) -> str:
        """Return a hash of all that a measure depends on."""
        content = json.dumps([list(self.lists.items()), {id_: dict(grades) for id_, grades in self.qrels.items()}])
        return hashlib.sha256(content.encode()).hexdigest()

    def measure(self, score: Callable[[list[tuple[str, str]]], Sequence[float]]) -> dict[str, float]:
        """Return the mean of each measure over all judged questions, in the order of pairs' scores."""
        from biorerank_plugins.evaluation.metrics import measure_run, run_from_order

        pairs = [(question, text) for question, passages in self.lists.values() for _, text in passages]
        scores = iter(score(pairs))
        orders = {}
        for id_, (_, passages) in self.lists.items():
            scored = [(float(next(scores)), passage_id) for passage_id, _ in passages]
            orders[id_] = [passage_id for _, passage_id in sorted(scored, key=lambda item: -item[0])]
        means = measure_run(run_from_order(orders), self.qrels, DEV_MEASURES).means
        return {name: round(means[name], 5) for name in DEV_MEASURES}


def read_dev(path: str | Path, *, candidates: int = 50, limit: int | None = None) -> DevSet:
    """Read a dev set, or its first so many judged questions.

    :param path: a folder in BEIR's layout, of which the ``test`` split counts (the lists are what BM25 finds, so many
        candidates each), or rows as training rows (the list of a question is its rows).
    :raises ReaderError: if it cannot be read, or no question has a relevant passage.
    """
    path = Path(path)
    dev = _from_beir(path, candidates, limit) if path.is_dir() else _from_rows(path, limit)
    if not any(grade > 0 for grades in dev.qrels.values() for grade in grades.values()):
        raise ReaderError("No question of the dev set has a relevant passage.", str(path))
    return dev


def _from_beir(folder: Path, candidates: int, limit: int | None) -> DevSet:
    from biorerank_plugins.readers import find_beir, read_qrels
    from biorerank_plugins.training.material import read_material
    from biorerank_plugins.training.mining import lexical_candidates

    material = read_material([folder], split="test", limit_questions=limit)
    found = lexical_candidates(material, depth=candidates)
    position_of = {id_: positions[0] for id_, positions in material.parts.items()}
    judged: dict[str, dict[str, int]] = {}
    for name, grades in read_qrels(find_beir(folder).qrels).items():
        if name in material.names:
            own = judged.setdefault(material.names[name], {})
            for id_, grade in grades.items():
                # A judged passage that the collection lacks stays in the judgements, as missed.
                key = material.ids[position_of[id_]] if id_ in position_of else id_
                own[key] = max(grade, own.get(key, 0))
    lists = {
        question.id: (question.text, [(material.ids[p], material.texts[p]) for p, _ in found[question.id]])
        for question in material.questions
    }
    return DevSet(folder.name, lists, judged)


def _from_rows(path: Path, limit: int | None) -> DevSet:
    lists: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in read_rows(path):
        id_ = normalised(row.question)
        if id_ not in lists and limit is not None and len(lists) >= limit:
            continue
        _, passages = lists.setdefault(id_, (row.question, []))
        passage_id = str(len(passages))
        passages.append((passage_id, row.passage))
        qrels.setdefault(id_, {})[passage_id] = int(row.label > 0.5)
    return DevSet(path.name, lists, {id_: grades for id_, grades in qrels.items() if any(grades.values())})


def check_apart(questions: Sequence[str], dev: DevSet) -> None:
    """Refuse to train on questions of the dev set with a ``ValueError`` that names them."""
    shared = shared_questions(questions, dev.questions)
    if shared:
        raise ValueError(
            f"{len(shared)} {'question' if len(shared) == 1 else 'questions'} of the dev set {dev.name} "
            f"{'is' if len(shared) == 1 else 'are'} in the training rows, so it would measure memory: "
            f"{'; '.join(repr(text) for text in shared[:3])}. Build the rows with --held-out, or take another dev set."
        )


def evaluator(dev: DevSet, batch_size: int) -> Any:
    """Return a dev set as the trainer takes it; so many pairs are scored at once."""
    from sentence_transformers.base.evaluation import BaseEvaluator

    class DevEvaluator(BaseEvaluator):
        primary_metric = DEV_MEASURES[0]

        def __call__(
            self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
        ) -> dict[str, float]:
            measured = dev.measure(partial(model.predict, batch_size=batch_size, show_progress_bar=False))
            return {f"dev_{name}": value for name, value in measured.items()}

    return DevEvaluator()  # type: ignore[no-untyped-call]
