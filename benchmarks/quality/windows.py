"""Short and long passages in one collection: what windows cost in quality, and whether probabilities hold by length.

    python -m benchmarks.quality.windows --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/windows.json

The candidates of each dev question are found once, among the short passages of the BioASQ collection. Then half of
the collection's passages become long: each stands somewhere between 2 to 6 whole abstracts of other questions, and
keeps its judgement. The same candidates are reranked short, mixed, and mixed with passages cut instead of windowed, so
that the difference is that of reading long passages and of nothing else.

Calibration: expected error over bins of equal mass, by the passage's number of words, beside what probabilities that
are right would show by chance with so few passages. Compared are the calibration stored with the model, and two fitted
here on calib questions: as the model stores it, and with the number of windows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, read_rows, write_result
from biorerank_plugins import BioReranker, Candidate, Passage, PassageIndex, RankedPassage, TwoStageSearch
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.evaluation.calibrate import Reliability, reliability
from biorerank_plugins.models.calibration import Calibration, fit_calibration
from biorerank_plugins.readers import Query, read_qrels

RESULT = "windows.json"
KEYS = ("questions", "candidates", "words", "nDCG@10", "calibrations", "calibration by length")

SEED = 7
SHARE_LONG = 0.5
ABSTRACTS = (2, 6)
ALLOWED_LOSS = 0.005
LENGTHS = (100, 600, 1000)  # words: upper ends of the bins, the last one is open
BINS = 5  # of probability, in each bin of length
DRAWS = 500
READERS: dict[str, dict[str, Any]] = {
    "windows": {},
    "windows, mean of the two best": {"windows": "mean-top-2"},
    "windows as long as the model takes": {"window_length": None},
    "cut": {"windows": False},
}

Judged = list[tuple[Query, list[RankedPassage]]]


@dataclass(frozen=True)
class Collection:
    """Makes long passages of short ones: the same one each time, whichever question asks."""

    filler: Sequence[str]

    def passage(self, short: Passage) -> Passage:
        draw = random.Random(f"{SEED} {short.id}")
        if draw.random() >= SHARE_LONG:
            return short
        around = draw.sample(self.filler, draw.randint(*ABSTRACTS))
        at = draw.randint(0, len(around))
        return replace(short, text="\n".join([*around[:at], short.text, *around[at:]]))

    def mixed(self, found: Sequence[Candidate]) -> list[Candidate]:
        return [replace(candidate, passage=self.passage(candidate.passage)) for candidate in found]


def questions(data: Path, split: str, limit: int) -> tuple[list[Query], dict[str, dict[str, int]]]:
    qrels = read_qrels(data / f"bioasq/qrels.{split}.tsv")
    asked = [Query(row["id"], row["question"]) for row in read_rows(data / f"bioasq/{split}.jsonl.gz")]
    asked = [query for query in asked if any(grade > 0 for grade in qrels.get(query.id, {}).values())][:limit]
    return asked, {query.id: qrels[query.id] for query in asked}


def rerank(name: str, reranker: BioReranker, asked: Sequence[Query], found: Sequence[Sequence[Candidate]]) -> Judged:
    """All candidates of each question, in the order of their logits."""
    judged = []
    for number, (query, candidates) in enumerate(zip(asked, found, strict=True), start=1):
        judged.append((query, list(reranker.rank(query.text, candidates, fusion=None))))
        if number % 25 == 0:
            print(f"  {name}: {number} of {len(asked)} questions", flush=True)
    return judged


def ndcg(judged: Judged, qrels: Mapping[str, Mapping[str, int]], weight: float | None) -> dict[str, float]:
    """nDCG@10 of each question; with a weight, of the order with the first stage's scores."""
    orders = {}
    for query, ranked in judged:
        order = sorted(ranked, key=lambda r: -(r.logit + (weight or 0.0) * (r.retrieval_score or 0.0)))
        orders[query.id] = [one.passage.id for one in order]
    return dict(measure_run(run_from_order(orders), qrels, ["nDCG@10"]).per_query["nDCG@10"])


def quality(
    short: Judged, others: Mapping[str, Judged], qrels: Mapping[str, Mapping[str, int]], weight: float | None
) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for order, own_weight in (("by logit", None), ("with the first stage's scores", weight)):
        before = ndcg(short, qrels, own_weight)
        rows[order] = {"short": {"nDCG@10": round(sum(before.values()) / len(before), 4)}}
        for name, judged in others.items():
            against = compare(before, ndcg(judged, qrels, own_weight))
            rows[order][f"mixed, {name}"] = {
                "nDCG@10": round(against.value, 4),
                "delta": round(against.delta, 4),
                "interval": [round(against.low, 4), round(against.high, 4)],
                "p": round(against.p_value, 5),
                "within the goal": against.delta >= -ALLOWED_LOSS,
            }
    return rows


def length_bin(ranked: RankedPassage) -> str:
    words = len(ranked.passage.text.split())
    low = 0
    for high in LENGTHS:
        if words <= high:
            return f"{low + 1}–{high} words"
        low = high
    return f"over {low} words"


def by_length(
    judged: Judged, qrels: Mapping[str, Mapping[str, int]], calibration: Calibration, depth: int | None
) -> dict[str, Any]:
    """Calibration error by length among the first ``depth`` of each question, and over all lengths."""
    lines = [(one, qrels[query.id].get(one.passage.id, 0) > 0) for query, ranked in judged for one in ranked[:depth]]
    said = [calibration.probability(one.logit, one.n_windows) for one, _ in lines]
    truth = [relevant for _, relevant in lines]
    groups = [length_bin(one) for one, _ in lines]
    curves = {"all lengths": reliability(said, truth), **reliability_by(groups, said, truth, BINS)}
    found = {}
    for name in ("all lengths", *sorted(set(groups), key=lambda name: (name.startswith("over"), len(name), name))):
        own = [p for p, group in zip(said, groups, strict=True) if name in ("all lengths", group)]
        if name in curves:
            curve = curves[name]
            row = {key: value for key, value in curve.to_dict().items() if key != "bins"}
            row["mean probability"] = round(float(np.mean(own)), 4)
            row["ECE by chance"] = by_chance(own, len(curve.bins))
            found[name] = row
    return found


def reliability_by(
    groups: Sequence[Hashable], probabilities: Sequence[float], relevant: Sequence[bool], bins: int
) -> dict[Any, Reliability]:
    """Compare probabilities with what was so, group by group: as by the length of passages.

    :param groups: the group of each.
    :param probabilities: as :func:`reliability` takes them.
    :param relevant: likewise.
    :param bins: number of bins a group.
    :returns: by group, in the order in which groups first occur; a group with one kind of truth only is left out.
    """
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    return {
        group: reliability([probabilities[place] for place in own], [relevant[place] for place in own], bins)
        for group, own in places.items()
        if len({bool(relevant[place]) for place in own}) == 2
    }


def by_chance(probabilities: Sequence[float], bins: int) -> float:
    """Mean calibration error of these probabilities if each of them were right."""
    draw = np.random.default_rng(SEED)
    p = np.sort(np.asarray(probabilities))
    parts = np.array_split(np.arange(len(p)), bins)
    truth = draw.random((DRAWS, len(p))) < p
    errors = [len(part) * np.abs(truth[:, part].mean(axis=1) - p[part].mean()) for part in parts if len(part)]
    return round(float(np.sum(errors, axis=0).mean() / len(p)), 4)


def fitted(judged: Judged, qrels: Mapping[str, Mapping[str, int]], depth: int, *, windows: bool) -> Calibration:
    lines = [(one, qrels[query.id].get(one.passage.id, 0) > 0) for query, ranked in judged for one in ranked[:depth]]
    return fit_calibration(
        [one.logit for one, _ in lines],
        [relevant for _, relevant in lines],
        [one.n_windows for one, _ in lines] if windows else None,
    )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--index", type=Path, required=True, help="of bioasq/corpus.jsonl.gz, by biorerank index")
    parser.add_argument("--questions", type=int, default=100, help="dev questions")
    parser.add_argument("--fit", type=int, default=60, help="calib questions; 0 fits nothing")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--readers", nargs="*", choices=READERS, default=["windows", "cut"], help="ways to read them")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    abstracts = read_rows(args.data / "bioasq/indoc.train.jsonl.gz")
    filler = [" ".join(sentence["text"] for sentence in row["sentences"]) for row in abstracts]
    collection = Collection(filler)
    asked, qrels = questions(args.data, "dev", args.questions)
    result: dict[str, Any] = {"questions": len(asked), "candidates": args.candidates}
    with BioReranker() as reranker, PassageIndex.load(args.index) as index:
        weight = TwoStageSearch(index, reranker).fusion_weight()
        found = index.search_many([query.text for query in asked], args.candidates)
        mixed = [collection.mixed(candidates) for candidates in found]
        words = [len(one.passage.text.split()) for candidates in mixed for one in candidates]
        result["words"] = {str(q): round(float(np.quantile(words, q))) for q in (0, 0.25, 0.5, 0.75, 1)}
        short = rerank("short", reranker, asked, found)
        others: dict[str, Judged] = {}
        for name in args.readers:
            with BioReranker(**READERS[name]) as reader:
                others[name] = rerank(f"mixed, {name}", reader, asked, mixed)
        result["nDCG@10"] = quality(short, others, qrels, weight)
        print(json.dumps(result, indent=1, ensure_ascii=False), flush=True)
        calibrations = {"sigmoid": Calibration(), "stored": reranker.calibration}
        if args.fit:
            on, own = questions(args.data, "calib", args.fit)
            pool = index.search_many([query.text for query in on], args.candidates)
            judged = rerank("calib", reranker, on, [collection.mixed(candidates) for candidates in pool])
            calibrations["fitted here"] = fitted(judged, own, 10, windows=False)
            calibrations["fitted here, with windows"] = fitted(judged, own, 10, windows=True)
        result["calibrations"] = {name: one.to_dict() for name, one in calibrations.items()}
        sets = {"short": short, **{f"mixed, {name}": judged for name, judged in others.items()}}
        result["calibration by length"] = {
            label: {
                f"top {depth}" if depth else "all candidates": {
                    name: by_length(judged, qrels, calibration, depth) for name, calibration in calibrations.items()
                }
                for depth in (10, None)
            }
            for label, judged in sets.items()
        }
    write_result(args.out, result, KEYS)
    print(json.dumps(result["calibration by length"], indent=1, ensure_ascii=False))
    print(json.dumps(result["calibrations"], indent=1))


if __name__ == "__main__":
    main()
