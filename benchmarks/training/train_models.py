"""Train the embedded models on what ``recipe_data.py`` built.

    python -m benchmarks.training.train_models encoder --base all-minilm --rows build/data/triples.jsonl \\
        --out build/encoder
    python -m benchmarks.training.train_models reranker --base build/first --rows build/data/groups.jsonl \\
        --out build/reranker

A run that was stopped goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import TypeVar

from benchmarks.common import parser_of
from benchmarks.training.bi_encoder import BiEncoderConfig, read_triples, train_bi_encoder
from biorerank_plugins.training.listwise import read_groups
from biorerank_plugins.training.recipes import get_recipe
from biorerank_plugins.training.trainer import train

Row = TypeVar("Row")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("which", choices=["encoder", "reranker"])
    parser.add_argument("--base", required=True, help="folder or hub name of the weights to start from")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="train on so many rows, drawn with a fixed seed")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--train-length", type=int)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    settings = {
        name: value
        for name, value in (("learning_rate", args.learning_rate), ("train_length", args.train_length))
        if value is not None
    }
    if args.which == "encoder":
        triples = read_triples(args.rows)
        train_bi_encoder(args.base, sample(triples, args.limit), args.out, BiEncoderConfig(**settings))
    else:
        groups = sample(read_groups(args.rows), args.limit)
        recipe = get_recipe("biorerank")
        train(args.base, groups, args.out, recipe.settings(None, settings), task=recipe.task)


def sample(rows: list[Row], limit: int | None) -> list[Row]:
    return rows if limit is None or limit >= len(rows) else random.Random(0).sample(rows, limit)


if __name__ == "__main__":
    main()
