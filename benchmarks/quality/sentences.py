"""How to score an evidence sentence: alone, with neighbours or title, in a mix, or in the words of the question.

    python -m benchmarks.quality.sentences --data "$BIORERANK_DATA" --out benchmarks/results/sentences.json

Whole PubMed abstracts whose sentences are labelled (``bioasq/indoc.*``): mean average precision of the sentences of an
abstract. The way is chosen on calib, and reported on dev against "alone" (paired sign-flip test), beside the bi-encoder
and the position in the text. Seconds are those of scoring all sentences of a split in that way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, read_rows, write_result
from benchmarks.quality.tasks import joined
from biorerank_plugins import BiEncoder, BioReranker, Passage
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.reranking.readings import readings

RESULT = "sentences.json"
KEYS = ("model", "calib", "dev", "chosen on calib")

WEIGHTS = (0.25, 0.5, 0.75)  # of the logit in context; the rest is that of the sentence alone
AT_ONCE = 32  # abstracts
AS_SHIPPED = "alone, in the words of the question"


@dataclass(frozen=True)
class Abstract:
    """A question and the sentences of an abstract, the first of which is its title."""

    name: str
    question: str
    sentences: Sequence[str]
    labels: Sequence[int]


def context(before: int, after: int) -> Callable[[Sequence[str], int], str]:
    return lambda sentences, n: " ".join(sentences[max(0, n - before) : n + after + 1])


def with_title(sentences: Sequence[str], n: int) -> str:
    return sentences[n] if n == 0 else f"{sentences[0].rstrip('.')}. {sentences[n]}"


TEXTS: dict[str, Callable[[Sequence[str], int], str]] = {
    "alone": context(0, 0),
    "with the one before": context(1, 0),
    "with the one after": context(0, 1),
    "with both neighbours": context(1, 1),
    "with the title": with_title,
}


def abstracts(data: Path, split: str, limit: int | None) -> list[Abstract]:
    """Abstracts with sentences of both labels."""
    questions = {row["id"]: row["question"] for row in read_rows(data / f"bioasq/{split}.jsonl.gz")}
    found = []
    for number, row in enumerate(read_rows(data / f"bioasq/indoc.{split}.jsonl.gz")):
        labels = [sentence["label"] for sentence in row["sentences"]]
        if row["qid"] in questions and 0 < sum(labels) < len(labels):
            texts = [sentence["text"] for sentence in row["sentences"]]
            found.append(Abstract(f"a{number}", questions[row["qid"]], texts, labels))
    return found[:limit]


def logits(reranker: BioReranker, items: Sequence[Abstract], text: Callable[[Sequence[str], int], str]) -> list[Any]:
    """The model's logits of the sentences of each abstract, float64 [n] each."""
    found = []
    for start in range(0, len(items), AT_ONCE):
        part = items[start : start + AT_ONCE]
        asked = [(one.question, [text(one.sentences, n) for n in range(len(one.sentences))]) for one in part]
        for ranking in reranker.rank_many(asked, fusion=None):
            by_place = {ranked.input_index: ranked.logit for ranked in ranking}
            found.append(np.array([by_place[n] for n in range(len(by_place))]))
    return found


def read_by(one: Abstract) -> list[tuple[str, ...]]:
    """What is read of each sentence as evidence is scored."""
    return readings(one.question, *joined(one.sentences))


def as_shipped(reranker: BioReranker, items: Sequence[Abstract]) -> list[Any]:
    """The value of each sentence as evidence is scored, float64 [n] an abstract."""
    read = [read_by(one) for one in items]
    every = [
        replace(one, sentences=[text for texts in own for text in texts]) for one, own in zip(items, read, strict=True)
    ]
    found = []
    for own, texts in zip(logits(reranker, every, TEXTS["alone"]), read, strict=True):
        ends = np.cumsum([len(few) for few in texts])
        found.append(np.array([part.mean() for part in np.split(own, ends[:-1])]))
    return found


def cosines(encoder: BiEncoder, items: Sequence[Abstract]) -> list[Any]:
    queries = encoder.encode_queries([one.question for one in items])
    return [
        encoder.encode_passages([Passage(str(n), text) for n, text in enumerate(one.sentences)]) @ query
        for one, query in zip(items, queries, strict=True)
    ]


def average_precisions(items: Sequence[Abstract], values: Sequence[Any]) -> dict[str, float]:
    """Average precision of each abstract; equal values stay in the order of the text."""
    qrels = {one.name: {f"s{n}": label for n, label in enumerate(one.labels)} for one in items}
    order = {
        one.name: [f"s{n}" for n in sorted(range(len(own)), key=lambda n: -float(own[n]))]
        for one, own in zip(items, values, strict=True)
    }
    return dict(measure_run(run_from_order(order), qrels, ["AP"]).per_query["AP"])


def measure(
    reranker: BioReranker, encoder: BiEncoder, items: Sequence[Abstract]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Average precisions by variant and abstract, and the seconds of each variant that was scored."""
    scored: dict[str, list[Any]] = {}
    seconds: dict[str, float] = {}
    reranker.warm_up()
    for name, text in TEXTS.items():
        began = time.perf_counter()
        scored[name] = logits(reranker, items, text)
        seconds[name] = round(time.perf_counter() - began, 2)
        print(f"  {name}: {seconds[name]} s", flush=True)
    variants = dict(scored)
    for name in [name for name in scored if name != "alone"]:
        for weight in WEIGHTS:
            pairs = zip(scored["alone"], scored[name], strict=True)
            variants[f"alone and {weight} × {name}"] = [(1 - weight) * own + weight * other for own, other in pairs]
    began = time.perf_counter()
    variants[AS_SHIPPED] = as_shipped(reranker, items)
    seconds[AS_SHIPPED] = round(time.perf_counter() - began, 2)
    values = {name: average_precisions(items, own) for name, own in variants.items()}
    values["bi-encoder"] = average_precisions(items, cosines(encoder, items))
    values["order of the text"] = average_precisions(items, [-np.arange(len(one.labels)) for one in items])
    return values, seconds


def table(values: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Means of each variant, and its difference from the sentence alone."""
    rows = {}
    for name, own in values.items():
        against = compare(values["alone"], own)
        rows[name] = {
            "AP": round(against.value, 4),
            "delta": round(against.delta, 4),
            "p": round(against.p_value, 5),
            "won": against.wins,
            "lost": against.losses,
        }
    return rows


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--model", help="reranker; default: the embedded one")
    parser.add_argument("--limit", type=int, help="abstracts of each split, for a trial")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    result: dict[str, Any] = {"model": args.model or "embedded"}
    encoder = BiEncoder()
    with BioReranker(args.model) as reranker:
        for split in ("calib", "dev"):
            items = abstracts(args.data, split, args.limit)
            print(f"{split}: {len(items)} abstracts, {sum(len(one.labels) for one in items)} sentences", flush=True)
            values, seconds = measure(reranker, encoder, items)
            result[split] = {"abstracts": len(items), "variants": table(values), "seconds": seconds}
            for name, row in result[split]["variants"].items():
                print(f"  {name:<45}" + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    ways = [name for name in result["calib"]["variants"] if name.startswith(("alone", "with"))]
    chosen = max(ways, key=lambda name: result["calib"]["variants"][name]["AP"])
    on_dev = result["dev"]["variants"]
    result["chosen on calib"] = {
        "way": chosen,
        "dev": on_dev[chosen],
        "dev above the bi-encoder": round(on_dev[chosen]["AP"] - on_dev["bi-encoder"]["AP"], 4),
    }
    write_result(args.out, result, KEYS)
    print(json.dumps(result["chosen on calib"], ensure_ascii=False))


if __name__ == "__main__":
    main()
