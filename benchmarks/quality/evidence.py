"""Measure evidence: probabilities, the three answers, answers planted in long articles, and sentence splitters.

    python -m benchmarks.quality.evidence --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/evidence.json

Two ways to a probability: of the passages that our hybrid finds, as a search shows them, and of the same passages as
plain texts, by the logit alone. What tells them was fitted on BioASQ's calibration questions; here are BioASQ's
development questions, and collections that the model was not trained for. Each question is asked again with its
evidence taken away: its relevant passages, all of the same documents, and near-duplicates. ``--plot FOLDER`` draws the
reliability curves.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from sklearn.metrics import roc_auc_score

from benchmarks.common import parser_of, read_result, read_rows, write_result
from benchmarks.quality.tasks import read_task
from biorerank_plugins import BiEncoder, BioReranker, Passage, PassageIndex, Ranking
from biorerank_plugins.evaluation.calibrate import draw_reliability, reliability, repeats
from biorerank_plugins.passages import Answerability, AnswerState
from biorerank_plugins.readers import Query, read_qrels
from biorerank_plugins.text.sentences import split_sentences

RESULT = "evidence.json"
ELSEWHERE = {"pubmedqa": 10, "liveqa": 10, "trec-covid": 100}
"""Candidates a question, in collections beside BioASQ; the answers of LiveQA are long."""
KEYS = ("sentence splitters", "planted answers", "bioasq dev", "pubmedqa", "liveqa", "trec-covid")

CANDIDATES = 100
QUESTIONS = 80  # of each collection beside BioASQ
DEPTH = 10
CACHE = 64_000_000  # bytes: each question is asked four times

SEED = 5
ARTICLE_WORDS = 2300  # about 3,000 tokens
PLANTED_AFTER_WORDS = 1150  # about 1,500 tokens
RIVALS = 20
PARTS = ("splitters", "planted", "bioasq", "elsewhere")


@dataclass
class Told:
    """What is said to the questions of a collection."""

    shown: list[tuple[float, bool]] = field(default_factory=list)  # probability and truth of the first passages
    there: list[Answerability] = field(default_factory=list)
    taken_away: list[Answerability] = field(default_factory=list)

    def add(self, ranking: Ranking, without: Ranking, relevant: Collection[str]) -> None:
        self.shown += [(ranked.probability, ranked.passage.id in relevant) for ranked in ranking[:DEPTH]]
        for told, one in ((self.there, ranking), (self.taken_away, without)):
            assert one.answerability is not None  # the embedded model tells it
            told.append(one.answerability)

    def to_dict(self) -> dict[str, Any]:
        every = [*self.there, *self.taken_away]
        truth = [True] * len(self.there) + [False] * len(self.taken_away)
        return {
            f"top {DEPTH}": reliability(*zip(*self.shown, strict=True)).to_dict(),
            "questions": len(self.there),
            "auroc of the three answers": round(float(roc_auc_score(truth, [one.probability for one in every])), 4),
            "with evidence": _shares(self.there),
            "without evidence": _shares(self.taken_away),
        }


def _shares(told: Sequence[Answerability]) -> dict[str, float]:
    return {state: round(fmean(one.state == state for one in told), 4) for state in get_args(AnswerState)}


def told_of(
    questions: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    index: PassageIndex,
    reranker: BioReranker,
    candidates: int,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Ask questions with their evidence there and with it taken away, as a search does and as plain texts.

    Questions whose evidence is not among the candidates, or is all that is there, are left out.
    """
    found = {"as a search": Told(), "as plain texts": Told()}
    for question in questions:
        relevant = {id_ for id_, grade in qrels.get(question.id, {}).items() if grade > 0}
        told = repeats(relevant, index)
        listed = index.search(question.text, candidates)
        kept = [one for one in listed if not told(one.passage)]
        if not kept or not any(one.passage.id in relevant for one in listed):
            continue
        for way, fusion in zip(found, ("stored", None), strict=True):
            with_, without = (reranker.rank(question.text, texts, fusion=fusion) for texts in (listed, kept))
            found[way].add(with_, without, relevant)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        curves = {way: reliability(*zip(*told.shown, strict=True)) for way, told in found.items()}
        draw_reliability(curves, plot, title=f"{plot.stem}, top {DEPTH}")
    return {"candidates": candidates, **{way: told.to_dict() for way, told in found.items()}}


def planted(
    questions: Sequence[Query],
    qrels: dict[str, dict[str, int]],
    index: PassageIndex,
    reranker: BioReranker,
    filler: Sequence[str],
) -> dict[str, Any]:
    """An answer in the second half of a long article, against the first stage's best passages at the same length."""
    draw = random.Random(SEED)
    first = evidence = asked = 0
    cut_first = 0
    cutting = BioReranker(windows=False)
    for question in questions:
        found = [candidate.passage for candidate in index.search(question.text, 100)]
        golds = [passage for passage in found if passage.id in qrels[question.id]]
        rivals = [passage.text for passage in found if passage.id not in qrels[question.id]][:RIVALS]
        if not golds or len(rivals) < RIVALS:
            continue
        asked += 1
        answer = golds[0].text
        article = article_with(answer, PLANTED_AFTER_WORDS, filler, draw)
        others = [article_with(text, draw.randrange(ARTICLE_WORDS), filler, draw) for text in rivals]
        passages = [Passage("answer", article), *(Passage(str(n), text) for n, text in enumerate(others))]
        [*_, best] = reranker.rank(question.text, passages, top_k=1, evidence=1, fusion=None)
        first += best.passage.id == "answer"
        cut_first += cutting.rank(question.text, passages, top_k=1, fusion=None)[0].passage.id == "answer"
        start = article.index(answer)
        own = reranker.rank(question.text, passages[:1], evidence=1, fusion=None)[0].evidence[0]
        evidence += own.start < start + len(answer) and own.end > start
    return {
        "questions": asked,
        "first": round(first / asked, 4),
        "first without windows": round(cut_first / asked, 4),
        "evidence on the answer": round(evidence / asked, 4),
    }


def article_with(text: str, after: int, filler: Sequence[str], draw: random.Random) -> str:
    """Sentences of other abstracts around a text, to the length of an article."""
    parts: list[str] = []
    words, placed = 0, False
    while words < ARTICLE_WORDS:
        if not placed and words >= after:
            parts.append(text)
            words, placed = words + len(text.split()), True
            continue
        parts.append(draw.choice(filler))
        words += len(parts[-1].split())
    return " ".join(parts if placed else [*parts, text])


def splitters(data: Path) -> dict[str, Any]:
    """Sentence borders of the abstracts of dev, found again after their sentences were joined."""
    abstracts = [[s["text"].strip() for s in row["sentences"]] for row in read_rows(data / "bioasq/indoc.dev.jsonl.gz")]
    results = {}
    for name, starts in available_splitters().items():
        right = wrong = missed = 0
        began = time.perf_counter()
        for sentences in abstracts:
            text, gold, at = " ".join(sentences), set(), 0
            for sentence in sentences[:-1]:
                at += len(sentence) + 1
                gold.add(at)
            got = set(starts(text)) - {0}
            right, wrong, missed = right + len(got & gold), wrong + len(got - gold), missed + len(gold - got)
        results[name] = {
            "precision": round(right / (right + wrong), 4),
            "recall": round(right / (right + missed), 4),
            "F1": round(2 * right / (2 * right + wrong + missed), 4),
            "ms an abstract": round(1000 * (time.perf_counter() - began) / len(abstracts), 3),
        }
    return results


def available_splitters() -> dict[str, Callable[[str], list[int]]]:
    """Splitters that are installed here; each from a text to where sentences start."""
    found: dict[str, Callable[[str], list[int]]] = {
        "sentencex (ours)": lambda text: [start for start, _ in split_sentences(text)]
    }
    try:
        import pysbd

        segmenter = pysbd.Segmenter(language="en", clean=False, char_span=True)
        found["pysbd"] = lambda text: [span.start for span in segmenter.segment(text)]
    except ImportError:
        pass
    try:
        from syntok import segmenter as syntok

        found["syntok"] = lambda text: [
            sentence[0].offset for paragraph in syntok.analyze(text) for sentence in paragraph
        ]
    except ImportError:
        pass
    try:
        from nupunkt import sent_spans

        found["nupunkt"] = lambda text: [span[0] for span in sent_spans(text)]
    except ImportError:
        pass
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True, help="of bioasq/corpus.jsonl.gz, by biorerank index")
    parser.add_argument("--planted", type=int, default=40, help="questions of the task with long articles")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this again, and keep the others")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parts = args.part or PARTS
    result: dict[str, Any] = read_result(args.out) if args.part else {}
    if "splitters" in parts:
        result["sentence splitters"] = splitters(args.data)
    questions = [Query(row["id"], row["question"]) for row in read_rows(args.data / "bioasq/dev.jsonl.gz")]
    qrels = read_qrels(args.data / "bioasq/qrels.dev.tsv")
    filler = [s["text"] for row in read_rows(args.data / "bioasq/indoc.train.jsonl.gz") for s in row["sentences"]]
    with BioReranker(cache_bytes=CACHE) as reranker:
        with PassageIndex.load(args.index) as index:
            if "planted" in parts:
                result["planted answers"] = planted(questions[: args.planted], qrels, index, reranker, filler)
                print(json.dumps(result["planted answers"]), flush=True)
            if "bioasq" in parts:
                plot = args.plot and args.plot / "bioasq-dev.png"
                result["bioasq dev"] = told_of(questions, qrels, index, reranker, CANDIDATES, plot)
                print(json.dumps(result["bioasq dev"]), flush=True)
        if "elsewhere" in parts:
            for name, candidates in ELSEWHERE.items():
                result[name] = elsewhere(args.data, name, candidates, reranker)
                print(json.dumps(result[name]), flush=True)
    write_result(args.out, result, KEYS)


def elsewhere(data: Path, name: str, candidates: int, reranker: BioReranker) -> dict[str, Any]:
    """The same on the first questions of a collection that the model was not trained for."""
    task = read_task(name, data, None)
    questions = [Query(id_, text) for id_, text in task.queries.items()][:QUESTIONS]
    with PassageIndex.build(task.passages, encoder=BiEncoder()) as index:
        return told_of(questions, task.qrels, index, reranker, candidates)


if __name__ == "__main__":
    main()
