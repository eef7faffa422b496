"""Measure evidence: calibration, abstention, answers planted in long articles, and sentence splitters.

    python -m benchmarks.quality.evidence --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/evidence.json

Calibration and threshold are those stored with the reranker (fitted on calib by ``biorerank calibrate``); everything
here is measured on dev questions. ``--plot FOLDER`` draws the reliability curves.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_result, read_rows, write_result
from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.evaluation.calibrate import Judged, answerability, judge, reliability_of
from biorerank_plugins.evaluation.reliability import draw_reliability
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.readers import Query, read_qrels
from biorerank_plugins.text.sentences import split_sentences

RESULT = "evidence.json"
KEYS = (
    "sentence splitters", "calibration", "planted answers", "bioasq dev", "abstention on bioasq dev", "pubmedqa",
    "liveqa",
)  # fmt: skip

SEED = 5
ARTICLE_WORDS = 2300  # about 3,000 tokens
PLANTED_AFTER_WORDS = 1150  # about 1,500 tokens
RIVALS = 20
PARTS = ("splitters", "planted", "bioasq", "elsewhere")


def calibration(judged: Sequence[Judged], reranker: BioReranker, plots: Path | None, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for depth in (10, 100):
        curves = {
            "sigmoid": reliability_of(judged, Calibration(), depth),
            "calibrated": reliability_of(judged, reranker.calibration, depth),
        }
        found[f"top {depth}"] = {label: curve.to_dict() for label, curve in curves.items()}
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            draw_reliability(curves, plots / f"{name}-top{depth}.png", title=f"{name}, top {depth}")
    return found


def abstention(judged: Sequence[Judged], reranker: BioReranker) -> dict[str, Any]:
    stored = reranker.calibration
    found = answerability(judged, stored, threshold=stored.evidence_threshold)
    return {name: round(getattr(found, name), 4) for name in found.__slots__}


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
    with BioReranker() as reranker, PassageIndex.load(args.index) as index:
        search = TwoStageSearch(index, reranker)
        result["calibration"] = reranker.calibration.to_dict()
        if "planted" in parts:
            result["planted answers"] = planted(questions[: args.planted], qrels, index, reranker, filler)
            print(json.dumps(result["planted answers"]), flush=True)
        if "bioasq" in parts:
            judged = judge(search, questions, qrels)
            result["bioasq dev"] = calibration(judged, reranker, args.plot, "bioasq-dev")
            result["abstention on bioasq dev"] = abstention(judged, reranker)
        if "elsewhere" in parts:
            result["pubmedqa"] = elsewhere(args.data / "pubmedqa", reranker)
            result["liveqa"] = elsewhere(args.data / "liveqa_medquad", reranker)
    write_result(args.out, result, KEYS)
    print(json.dumps(result, indent=1))


def elsewhere(folder: Path, reranker: BioReranker) -> dict[str, Any]:
    """Calibration on the first questions of a collection that the model was not trained for."""
    rows = read_rows(folder / "corpus.jsonl.gz")
    asked = [Query(row["id"], row["question"]) for row in read_rows(folder / "queries.jsonl.gz")]
    grades = read_qrels(folder / "qrels.tsv")
    with PassageIndex.build([Passage(row["id"], row["text"]) for row in rows]) as other:
        few = [query for query in asked if query.id in grades][:80]
        found = judge(TwoStageSearch(other, reranker), few, grades, candidates=10)
    ways = {"sigmoid": Calibration(), "calibrated": reranker.calibration}
    return {"top 10": {label: reliability_of(found, way, 10).to_dict() for label, way in ways.items()}}


if __name__ == "__main__":
    main()
