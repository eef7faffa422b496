"""The pairs that int8 is fitted on: questions of the demo collection, each with passages that answer it and others."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer

_ANSWERS, _OTHERS = 2, 3  # passages a question
_LONGEST, _QUERY = 512, 128  # tokens of a pair, and of a query
_SEED = 20_261_123


def quantization_pairs(tokenizer: PairTokenizer, longest: int) -> list[EncodedPair]:
    """Return about 300 pairs of the demo collection, most of them sentences and a few of a paragraph.

    :param tokenizer: builds the pairs, at full length whatever its own limits are: what is fitted is kept, for users
        with other limits too.
    :param longest: tokens that the model has positions for.
    """
    from biorerank_plugins import demo
    from biorerank_plugins.readers import read_passages, read_queries

    folder = Path(demo.__file__).parent
    texts = {p.id: f"{p.title}. {p.text}" if p.title else p.text for p in read_passages(folder / "corpus.jsonl")}
    answers: dict[str, list[str]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            answers.setdefault(row["query-id"], []).append(row["corpus-id"])
    draw = random.Random(_SEED)
    pairs = []
    for query in read_queries(folder / "queries.jsonl"):
        chosen = [*answers.get(query.id, [])[:_ANSWERS], *draw.sample(sorted(texts), _OTHERS)]
        pairs += [(query.text, texts[passage]) for passage in chosen]
    # A few long ones: their positions and lengths would not be seen otherwise.
    questions = [query for query, _ in pairs[::20]]
    pairs += [(query, " ".join(draw.sample(sorted(texts.values()), 8))) for query in questions]
    return tokenizer.with_limits(min(longest, _LONGEST), min(_QUERY, longest // 2)).encode(pairs)
