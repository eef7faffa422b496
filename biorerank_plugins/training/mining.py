"""Candidates for negatives: what BM25 and a bi-encoder find for each question.

Run files (TREC's form) hold what was found: mining is the slow part, and any other search can take its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.passages import Passage
from biorerank_plugins.training.material import Material
from biorerank_plugins.training.negatives import Candidates, Question

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import BiEncoder

DEPTH = 200
"""Candidates found for each question; negatives are drawn from the first 100 or so, and the guard looks at all."""

_AT_ONCE = 512  # passages embedded between two steps of the progress bar


def lexical_candidates(material: Material, *, depth: int = DEPTH) -> Candidates:
    """Return what BM25 finds (k1 0.9, b 0.4, English stems and stop words), best first."""
    import bm25s
    import Stemmer

    def tokens(texts: Sequence[str]) -> Any:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)

    bm25 = bm25s.BM25(k1=0.9, b=0.4)
    bm25.index(tokens(material.texts), show_progress=False)
    found, scores = bm25.retrieve(
        tokens([question.text for question in material.questions]),
        k=min(depth, len(material.texts)),
        show_progress=False,
    )
    return {
        question.id: [(int(p), float(s)) for p, s in zip(positions, values, strict=True) if s > 0]
        for question, positions, values in zip(material.questions, found, scores, strict=True)
    }


def dense_candidates(
    material: Material, encoder: BiEncoder, *, depth: int = DEPTH, show_progress: bool = False
) -> Candidates:
    """Return what a bi-encoder finds, best first, by exact search.

    Behind the ``depth`` best stand the gold passages that are not among them: the guard compares with their scores.
    """
    passages = _embed(material, encoder, show_progress)
    queries = encoder.encode_queries([question.text for question in material.questions])
    depth = min(depth, len(passages))
    candidates = {}
    for question, query in zip(material.questions, queries, strict=True):
        scores = passages @ query
        best = np.argpartition(-scores, depth - 1)[:depth]
        best = best[np.argsort(-scores[best], kind="stable")]
        behind = sorted(question.gold - set(best.tolist()), key=lambda position: -float(scores[position]))
        candidates[question.id] = [(int(p), float(scores[p])) for p in [*best.tolist(), *behind]]
    return candidates


def _embed(material: Material, encoder: BiEncoder, show_progress: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = []
    with progress_bar(show_progress, total=len(material.texts), desc="Embedding", unit="passage") as bar:
        for start in range(0, len(material.texts), _AT_ONCE):
            texts = material.texts[start : start + _AT_ONCE]
            vectors.append(encoder.encode_passages([Passage(str(n), text) for n, text in enumerate(texts)]))
            bar.update(len(texts))
    return np.concatenate(vectors)


def write_candidates(candidates: Candidates, material: Material, path: str | Path, *, tag: str) -> None:
    """Write candidates as a TREC run of that name."""
    from biorerank_plugins.evaluation.runs import write_run

    run = {id_: {material.ids[p]: score for p, score in found} for id_, found in candidates.items()}
    write_run(run, path, tag=tag)


def read_candidates(path: str | Path, material: Material) -> tuple[Candidates, int]:
    """Read candidates from a TREC run; scores must be those of the search, not ranks in disguise.

    Ids are those of the files that the material was read from. Where passages were cut into sentences, each sentence
    takes the score of its passage.

    :returns: candidates (empty for a question that the run does not have), and how many lines of the run name passages
        that the material does not have.
    :raises ValueError: if the run has none of the questions, or none of the passages.
    """
    from biorerank_plugins.evaluation.runs import read_run

    candidates: dict[str, list[tuple[int, float]]] = {question.id: [] for question in material.questions}
    n_unknown = n_known = n_questions = 0
    for name, scores in read_run(path).items():
        question_id = material.names.get(name, name)
        if question_id not in candidates:
            continue
        n_questions += 1
        for passage_id, score in sorted(scores.items(), key=lambda item: -item[1]):
            positions = material.parts.get(passage_id, [])
            candidates[question_id] += [(position, score) for position in positions]
            n_known += bool(positions)
            n_unknown += not positions
    if not n_known:
        what = "passages" if n_questions else "questions"
        raise ValueError(f"The run {path} names none of the {what}: its ids are those of other files.")
    return candidates, n_unknown


def similar_questions(questions: Sequence[Question], dense: Candidates) -> Mapping[str, list[str]]:
    """Return for each question the others whose gold passages it finds, most first; none that shares a document."""
    owners: dict[int, list[Question]] = {}
    for question in questions:
        for gold in question.gold:
            owners.setdefault(gold, []).append(question)
    similar = {}
    for question in questions:
        votes = Counter(
            other.id
            for found, _ in dense.get(question.id, ())
            for other in owners.get(found, ())
            if other.id != question.id and not other.documents & question.documents
        )
        similar[question.id] = [other for other, _ in votes.most_common()]
    return similar
