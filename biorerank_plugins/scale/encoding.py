"""All passages of a catalog file become embedding shards: which rows a shard has, and the loop of one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import BATCH_SIZE, embed_shard, fingerprint

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder

__all__ = ["SHARD_SIZE", "Work", "encode_here", "job_of", "shard_passages"]

SHARD_SIZE = 8 * BATCH_SIZE
"""Passages of a shard: what a killed run loses at most for each encoder."""


@dataclass(frozen=True)
class Work:
    """The shards of a catalog file.

    :param catalog: the file; rows are 0, 1, 2, …
    :param count: number of passages in it.
    :param shard_size: passages of a shard; the last one may have fewer.
    """

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


def shard_passages(catalog: Catalog, rows: range) -> list[Passage]:
    """Return the passages of these rows, in order."""
    found = catalog.fetch(rows)
    return [found[row] for row in rows]


def encode_here(
    work: Work, shards: ShardFolder, encoder: Encoder, *, on_done: Callable[[int], None] = lambda count: None
) -> None:
    """Embed every shard that is not done, one after the other, in this process.

    :param work: the passages.
    :param shards: where the vectors go.
    :param encoder: what embeds them.
    :param on_done: is called with the number of passages of each shard that is there.
    :raises ShardError: if shards that are there were made from other passages.
    """
    catalog = Catalog.open(work.catalog)
    try:
        for number in work.numbers:
            passages = shard_passages(catalog, work.rows(number))
            shards.run(number, fingerprint(passages), lambda part=passages: embed_shard(part, encoder).to_arrays())  # type: ignore[misc]
            on_done(len(passages))
    finally:
        catalog.close()
