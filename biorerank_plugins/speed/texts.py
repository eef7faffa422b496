"""What is scored: questions with passages, of the lengths that a mix asks for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins.errors import ReaderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Tokens of BioASQ's snippets (all 55,258 of its train, calib and dev questions), as (share of snippets, tokens).
_BIOASQ_TOKENS = (
    (0.0, 1), (0.05, 16), (0.1, 20), (0.15, 23), (0.2, 26), (0.25, 28), (0.3, 31), (0.35, 33), (0.4, 35), (0.45, 38),
    (0.5, 40), (0.55, 43), (0.6, 46), (0.65, 49), (0.7, 53), (0.75, 58), (0.8, 64), (0.85, 72), (0.9, 85), (0.95, 114),
    (0.975, 153), (0.99, 229), (0.995, 293), (1.0, 853),
)  # fmt: skip
_SPREAD = 0.25  # pairs of a mix of N tokens have between 0.75 N and 1.25 N
_SPECIAL_TOKENS = 3
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A question with the passages to score for it."""

    query: str
    texts: tuple[str, ...]
    lengths: tuple[int, ...]  # tokens of each pair, special tokens included, cut at the model's limit


@dataclass(frozen=True, slots=True)
class Source:
    """Where words come from."""

    name: str
    queries: Sequence[str]
    passages: Sequence[str]
    is_bioasq: bool  # the passages have the lengths of BioASQ's by themselves


@dataclass(frozen=True, slots=True)
class Mix:
    """Lengths of pairs: ``"bioasq"`` (sentences, as BioASQ's snippets) or a number of tokens."""

    name: str
    tokens: int | None

    @classmethod
    def parse(cls, name: str) -> Mix:
        """Read a mix, of tokens that pairs have about; raise ``ValueError`` for what is none.

        >>> Mix.parse("150")
        Mix(name='150', tokens=150)
        """
        if name == "bioasq":
            return cls(name, None)
        if name.isascii() and name.isdigit() and int(name) >= 16:
            return cls(name, int(name))
        raise ValueError(f"The mix {name!r} is unknown: expected 'bioasq' or tokens a pair, at least 16, such as 150.")


def read_source(data: Path | None) -> Source:
    """Read questions and passages.

    :param data: folder with ``bioasq/corpus.jsonl.gz`` and ``bioasq/dev.jsonl.gz``, or that folder ``bioasq`` itself;
        ``None`` takes the demo collection of the package.
    :raises ReaderError: if the folder does not hold them, or they cannot be read.
    """
    from biorerank_plugins.readers import read_passages, read_queries

    if data is None:
        folder, corpus, questions = Path(__file__).parents[1] / "demo", "corpus.jsonl", "queries.jsonl"
    else:
        folder, corpus, questions = data, "corpus.jsonl.gz", "dev.jsonl.gz"
        folder = data / "bioasq" if (data / "bioasq").is_dir() else data
        missing = [name for name in (corpus, questions) if not (folder / name).is_file()]
        if missing:
            raise ReaderError(f"No {' and no '.join(missing)} in this folder or its folder 'bioasq'.", str(data))
    queries = [query.text for query in read_queries(folder / questions)]
    passages = list(dict.fromkeys(passage.text for passage in read_passages(folder / corpus)))
    name = "demo collection" if data is None else "BioASQ corpus and dev questions"
    return Source(name, queries, passages, is_bioasq=data is not None)


def make_requests(
    source: Source, mix: Mix, tokenizer: Tokenizer, *, count: int, candidates: int, max_length: int, seed: int = 0
) -> list[Request]:
    """Make requests with other passages in each: what a system keeps of one does not help it with the next.

    Passages are drawn at random from the source where it has the lengths of the mix by itself, and are put together
    from its passages and cut elsewhere. Pairs of more than ``max_length`` tokens are cut by the systems.

    :raises ReaderError: if the source does not have so many different passages.
    """
    draw = random.Random(f"{seed}/{mix.name}")
    queries = itertools.islice(itertools.cycle(draw.sample(source.queries, len(source.queries))), count)
    real = _in_random_order(source.passages, draw)
    requests = []
    for query in queries:
        texts = real if mix.tokens is None and source.is_bioasq else _written(source, mix, tokenizer, query, draw)
        own = _different(texts, candidates)
        encoded = tokenizer.encode_batch_fast([(query, text) for text in own])
        requests.append(Request(query, own, tuple(min(len(pair.ids), max_length) for pair in encoded)))
    return requests


def _different(texts: Iterator[str], count: int) -> tuple[str, ...]:
    """Take texts, none of them twice: a system that scores equal pairs once would have less to do than the others."""
    found: dict[str, None] = {}
    for text in itertools.islice(texts, _TRIES * count):
        found[text] = None
        if len(found) == count:
            return tuple(found)
    raise ReaderError(f"There are only {len(found)} different passages for {count} candidates.")


def _in_random_order(passages: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Give each passage once before any of them again."""
    while True:
        yield from draw.sample(passages, len(passages))


def _written(source: Source, mix: Mix, tokenizer: Tokenizer, query: str, draw: random.Random) -> Iterator[str]:
    """Give texts put together from passages and cut where they have as many tokens as the mix wants."""
    around = len(tokenizer.encode(query, add_special_tokens=False).ids) + _SPECIAL_TOKENS
    shares, tokens = zip(*_BIOASQ_TOKENS, strict=True)
    while True:
        if mix.tokens is None:
            wanted = round(float(np.interp(draw.random(), shares, tokens)))
        else:
            wanted = round(mix.tokens * draw.uniform(1 - _SPREAD, 1 + _SPREAD)) - around
        yield _text(source.passages, tokenizer, max(1, wanted), draw)


def _text(passages: Sequence[str], tokenizer: Tokenizer, wanted: int, draw: random.Random) -> str:
    parts: list[str] = []
    found = 0
    while found < wanted:
        parts.append(draw.choice(passages))
        found += max(1, len(tokenizer.encode(parts[-1], add_special_tokens=False).ids))
    text = " ".join(parts)
    ends = tokenizer.encode(text, add_special_tokens=False).offsets
    return text[: ends[min(wanted, len(ends)) - 1][1]] if ends else text
