"""What is done with one shard, the same in a loop, on Ray, on Spark or in a Slurm array; and which rows a shard has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.vectors import FloatArray
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_folder import ShardFolder

if TYPE_CHECKING:
    from biorerank_plugins.scoring.scores import PairScorer


@dataclass(frozen=True, eq=False)
class EmbeddedShard:
    """Passages of a shard as vectors.

    :param ids: ids of the passages, in order.
    :param embeddings: ``[len(ids), dimension]`` float32.
    """

    ids: tuple[str, ...]
    embeddings: FloatArray

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return it as arrays, which a :class:`~.shard_folder.ShardFolder` keeps."""
        encoded = [id_.encode() for id_ in self.ids]
        ends = np.cumsum([len(part) for part in encoded], dtype=np.int64)
        ids = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return {"embeddings": self.embeddings, "ids": ids, "id_ends": ends}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> EmbeddedShard:
        """Return the shard that :meth:`to_arrays` was called on."""
        joined, ends = arrays["ids"].tobytes(), arrays["id_ends"].tolist()
        ids = tuple(joined[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True))
        return cls(ids, arrays["embeddings"])


def embed_shard(
    passages: Sequence[Passage], encoder: Encoder, *, batch_size: int = embedding.BATCH_SIZE
) -> EmbeddedShard:
    """Embed the passages of a shard.

    :param passages: what to embed.
    :param encoder: what embeds them.
    :param batch_size: passages in one call of the encoder.
    :returns: ids and ``[len(passages), dimension]`` vectors, in the order of ``passages``.
    :raises PassageIndexError: if the encoder gives something else than finite vectors of its dimension.

    >>> embed_shard([Passage("a", "p53 suppresses tumours.")], encoder).ids     # doctest: +SKIP
    ('a',)
    """
    batch_size = whole_number("batch_size", batch_size)
    vectors = np.empty((len(passages), encoder.dimension), dtype=np.float32)
    for start in range(0, len(passages), batch_size):
        part = list(passages[start : start + batch_size])
        vectors[start : start + len(part)] = embedding.embed(part, encoder)
    return EmbeddedShard(tuple(passage.id for passage in passages), vectors)


def score_shard(pairs: Iterable[tuple[str, str]], scorer: PairScorer) -> FloatArray:
    """Score the pairs of a shard.

    :param pairs: query and text; neighbours with the same query are scored together.
    :param scorer: anything with ``logits(query, texts)``.
    :returns: ``[n]`` float32 logits, in the order of ``pairs``.
    :raises ScoringError: if the scorer gives another number of logits than it got texts, or one that is not finite.

    >>> class Overlap:
    ...     def logits(self, query, texts):
    ...         return [float(len(set(query.split()) & set(text.split()))) for text in texts]
    >>> score_shard([("low iron", "iron"), ("low iron", "low iron")], Overlap()).tolist()
    [1.0, 2.0]
    """
    parts: list[FloatArray] = [np.empty(0, dtype=np.float32)]
    for query, group in groupby(pairs, key=lambda pair: pair[0]):
        texts = [text for _, text in group]
        logits = np.asarray(scorer.logits(query, texts), dtype=np.float32)
        if logits.shape != (len(texts),):
            shape = logits.shape
            raise ScoringError(f"The scorer gave logits of shape {shape} for {len(texts)} texts of {query!r:.80}.")
        if not np.isfinite(logits).all():
            broken = int(np.flatnonzero(~np.isfinite(logits))[0])
            raise ScoringError(f"A logit is not finite: that of {query!r:.80} and {texts[broken]!r:.80}.")
        parts.append(logits)
    return np.concatenate(parts)


def fingerprint(items: Iterable[Passage | tuple[str, str]]) -> str:
    """Return a SHA-256 over everything a model may read of these passages or pairs, and the ids of passages."""
    digest = hashlib.sha256()
    for item in items:
        fields = [item.id, item.title, item.text] if isinstance(item, Passage) else list(item)
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


SHARD_SIZE = 8 * embedding.BATCH_SIZE
"""Passages of a shard: what a killed run loses at most for each encoder."""


@dataclass(frozen=True)
class Work:
    """The shards of a catalog file, whose rows are 0, 1, 2, …; the last one may have fewer passages."""

    catalog: Path
    count: int
    shard_size: int = SHARD_SIZE

    def __post_init__(self) -> None:
        whole_number("shard_size", self.shard_size)

    @property
    def numbers(self) -> range:
        """Numbers of all shards."""
        return range(-(-self.count // self.shard_size))

    def rows(self, number: int) -> range:
        """Return the rows of a shard."""
        return range(number * self.shard_size, min(self.count, (number + 1) * self.shard_size))


def job_of(encoder: Encoder, shard_size: int) -> dict[str, Any]:
    """Return what a :class:`ShardFolder` of embeddings depends on besides the passages."""
    return {
        "kind": "embeddings",
        "encoder": encoder.model_id,
        "content_hash": encoder.content_hash,
        "config": encoder.config(),
        "dimension": encoder.dimension,
        "shard_size": shard_size,
    }


def encode_here(work: Work, shards: ShardFolder, encoder: Encoder, on_done: Callable[[int], Any]) -> None:
    """Embed every shard that is not done; ``on_done`` is called with the number of passages of each that is there."""
    with closing(Catalog.open(work.catalog)) as catalog:
        for number in work.numbers:
            passages = catalog.in_order(work.rows(number))
            shards.run(number, fingerprint(passages), lambda part=passages: embed_shard(part, encoder).to_arrays())  # type: ignore[misc]
            on_done(len(passages))
