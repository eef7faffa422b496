"""Build the groups of the cross-encoder's evidence stage: sentences in their context, and a rehearsal of earlier kinds.

    python -m benchmarks.training.sentence_groups --data "$BIORERANK_DATA" --rehearsal build/groups-reach.jsonl \\
        --seen build/groups-stage4.jsonl --out build/groups-evidence.jsonl

A group asks for the gold sentences of an abstract above its other sentences. Most sentences stand in the form in which
evidence is scored (``text/sentence_context.py``); some alone, so that both stay ranked. Never read: dev and calib of
BioASQ, ``check_covid``, and articles of Evidence Inference that are not of its training part.
"""

from __future__ import annotations

import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_rows, write_rows
from biorerank_plugins.text.sentence_context import in_context

SEED = 29
POSITIVES, NEGATIVES = 3, 5
ALONE, UNTITLED = 0.2, 0.2  # shares of groups: sentence alone; sentence with the one before it only
# What the embedded reranker is weakest in comes more often.
REHEARSAL = {
    "question-snippet": 700,
    "title-section": 700,
    "consumer-answer": 200,
    "question-answer": 150,
    "wikidoc-answer": 250,
    "phrase-snippet": 250,
    "phrase-abstract": 120,
    "claim-abstract": 120,
    "claim-snippet": 150,
    "question-abstract": 120,
    "conclusion-abstract": 150,
    "title-abstract": 200,
    "trial-abstract": 120,
    "citance-title": 150,
    "long-question": 100,
    "fever": 60,
    "boolq": 60,
}
Group = dict[str, Any]


def forms(sentences: Sequence[str], draw: random.Random) -> list[str]:
    """The sentences of an abstract, its title first, in one of three forms."""
    kind = draw.random()
    if kind < ALONE:
        return list(sentences)
    title = None if kind < ALONE + UNTITLED else sentences[0]
    return [in_context(own, title, sentences[n - 1] if n else None) for n, own in enumerate(sentences)]


def group(source: str, query: str, good: Sequence[str], bad: Sequence[str], draw: random.Random) -> Iterator[Group]:
    good, bad = [t for t in good if t.strip()], [t for t in bad if t.strip()]
    if good and bad:
        yield {
            "source": source,
            "query": query,
            "positive": draw.sample(good, min(POSITIVES, len(good))),
            "negatives": draw.sample(bad, min(NEGATIVES, len(bad))),
        }


def abstracts(data: Path, draw: random.Random) -> Iterator[Group]:
    """BioASQ: question, sentences of an abstract with a gold snippet."""
    questions = {row["id"]: row["question"] for row in read_rows(data / "bioasq/train.jsonl.gz")}
    for row in read_rows(data / "bioasq/indoc.train.jsonl.gz"):
        if row["qid"] in questions:
            texts = forms([sentence["text"] for sentence in row["sentences"]], draw)
            labels = [sentence["label"] for sentence in row["sentences"]]
            good = [text for text, label in zip(texts, labels, strict=True) if label]
            bad = [text for text, label in zip(texts, labels, strict=True) if not label]
            yield from group("sentence-in-context", questions[row["qid"]], good, bad, draw)


def trials(data: Path, draw: random.Random, count: int) -> Iterator[Group]:
    """Evidence Inference: what is compared, sentences of the full text; one prompt an article and outcome."""
    queries = {row["id"]: row for row in read_rows(data / "evidence_inference/queries.jsonl.gz")}
    articles = {row["doc"]: row for row in read_rows(data / "evidence_inference/articles.jsonl.gz")}
    rows = [
        r for r in read_rows(data / "evidence_inference/evidence.jsonl.gz") if queries[r["qid"]]["split"] == "train"
    ]
    draw.shuffle(rows)
    taken: Counter[str] = Counter()
    for row in rows:
        taken[row["doc"]] += 1
        if taken[row["doc"]] > 2 or sum(taken.values()) > count:
            continue
        sentences, title = articles[row["doc"]]["sentences"], articles[row["doc"]]["title"]
        near = [n for g in row["gold"] for n in range(g - 12, g + 13) if 0 <= n < len(sentences)]
        others = sorted(set(near) - set(row["gold"]))
        told = [in_context(own, title, sentences[n - 1] if n else None) for n, own in enumerate(sentences)]
        asked = queries[row["qid"]]
        query = asked.get(draw.choice(["question", "claim", "keywords"])) or asked["question"]
        yield from group("trial-sentence", query, [told[n] for n in row["gold"]], [told[n] for n in others], draw)


def rehearsal(path: Path, seen: Path, draw: random.Random) -> Iterator[Group]:
    """Groups of the reach stage that were left over, by kind; cut to the size of the others."""
    known = {(row["source"], row["query"]) for row in read_rows(seen)}
    left: dict[str, list[Group]] = defaultdict(list)
    for row in read_rows(path):
        if (row["source"], row["query"]) not in known:
            left[row["source"]].append(row)
    for source, count in REHEARSAL.items():
        for row in draw.sample(left[source], min(count, len(left[source]))):
            yield from group(source, row["query"], row["positive"][:2], row["negatives"], draw)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rehearsal", type=Path, required=True, help="what reach_groups.py wrote")
    parser.add_argument("--seen", type=Path, required=True, help="groups that the stage before was trained on")
    parser.add_argument("--trials", type=int, default=350)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    draw = random.Random(SEED)
    groups = [*abstracts(args.data, draw), *trials(args.data, draw, args.trials)]
    groups += rehearsal(args.rehearsal, args.seen, draw)
    draw.shuffle(groups)
    write_rows(args.out, groups)
    pairs = sum(len(one["positive"]) + len(one["negatives"]) for one in groups)
    logging.info("%s", json.dumps({"groups": Counter(one["source"] for one in groups), "pairs": pairs}, indent=1))


if __name__ == "__main__":
    main()
