"""The folder of a sharded index: indexes with the statistics of all words, and a file that says which they are."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biorerank_plugins._common.files import TEMPORARY, write_whole
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory, parse_factory
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages, lexical_settings
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.passages import Passage, PassageLike
from biorerank_plugins.scale.build import embedded, work_folder
from biorerank_plugins.scale.shards import SHARD_SIZE
from biorerank_plugins.scale.vectors import Embeddings, index_vectors

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder
    from biorerank_plugins.first_stage.vectors import RowArray
    from biorerank_plugins.scale.build import Engine
    from biorerank_plugins.scale.ray_engine import RayOptions

_LAYOUT = "shards.json"
_FORMAT = 1
_AT_ONCE = 4096
_MOST = 1 << 16  # shards; a damaged file must not ask for as many names as fit into no memory


def shard_of(id: str, shards: int) -> int:
    """Return the shard of an id: the same on every machine and in every release.

    >>> shard_of("23185200", 4)
    1
    """
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") % shards


def is_sharded(folder: Path) -> bool:
    """Return whether a sharded index is in this folder."""
    return os.path.isfile(folder / _LAYOUT)  # unlike Path.is_file, quiet about names that no path can have


def read_layout(folder: Path) -> list[str]:
    """Return the names of the shards, in the order of their numbers.

    :raises PassageIndexError: if there is no sharded index.
    """
    if not is_sharded(folder):
        raise PassageIndexError(f"There is no sharded index in {folder}.")
    try:
        layout = json.loads((folder / _LAYOUT).read_bytes())
        if layout["format"] != _FORMAT:
            raise PassageIndexError(
                f"{folder} has format {layout['format']!r} of shards; this release reads {_FORMAT}."
            )
        count = layout["shards"]
        if type(count) is not int or not 1 <= count <= _MOST:
            raise ValueError(f"shards is {count!r:.40}")
        return [_name(number) for number in range(count)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PassageIndexError(f"{folder / _LAYOUT} is damaged: {error!r}.") from error


def _name(number: int) -> str:
    return f"shard-{number:04d}"


def write_shards(
    passages: Iterable[PassageLike],
    folder: Path,
    *,
    shards: int,
    encoder: Encoder | None,
    factory: str,
    lexical: bool,
    engine: Engine,
    ray_options: RayOptions | None,
    on_duplicate: Literal["error", "skip"],
    show_progress: bool,
) -> Encoder:
    """Build all shards; the parameters are those of :meth:`ShardedIndex.build`.

    :returns: the encoder they were built with.
    """
    kind = parse_factory(factory)
    if folder.exists() and (not folder.is_dir() or any(not _is_left_over(entry.name) for entry in folder.iterdir())):
        raise PassageIndexError(f"{folder} exists already. Build in a new folder, or remove this one first.")
    embeddings, chosen = embedded(
        passages,
        work_folder(folder),
        encoder,
        engine=engine,
        ray_options=ray_options,
        shard_size=SHARD_SIZE,
        on_duplicate=on_duplicate,
        identity=None,
        show_progress=show_progress,
    )
    catalog = Catalog.open(embeddings.work.catalog)
    try:
        members = _members(catalog, shards)
        _check_sizes(members, kind, chosen.dimension)
        words = [index_passages(_rows_of(catalog, rows), chosen.config()) for rows in members] if lexical else []
        whole = statistics_of(words)
        folder.mkdir(parents=True, exist_ok=True)
        for number, rows in enumerate(members):
            part = Embeddings(embeddings.work, embeddings.shards, rows)
            mine = with_statistics(words[number], whole) if lexical else None
            _write_shard(folder / _name(number), part, catalog, kind, mine, chosen)
    finally:
        catalog.close()
    for entry in folder.glob(f"{TEMPORARY}*"):
        entry.unlink(missing_ok=True)
    write_whole(folder / _LAYOUT, json.dumps({"format": _FORMAT, "shards": shards}).encode())
    shutil.rmtree(work_folder(folder), ignore_errors=True)
    return chosen


def _is_left_over(name: str) -> bool:
    """Return whether a build that was killed may have left this: shards, or the list of them half written."""
    return name.startswith(("shard-", f"{TEMPORARY}{_LAYOUT}"))


def _members(catalog: Catalog, shards: int) -> list[RowArray]:
    found: list[list[int]] = [[] for _ in range(shards)]
    for row, passage in catalog.passages():
        found[shard_of(passage.id, shards)].append(row)
    return [np.array(rows, dtype=np.int64) for rows in found]


def _check_sizes(members: list[RowArray], factory: Factory, dimension: int) -> None:
    if not all(len(rows) for rows in members):
        total = sum(map(len, members))
        raise PassageIndexError(f"{total} passages leave one of {len(members)} shards empty. Take fewer shards.")
    for rows in members:
        factory.check(len(rows), dimension)


def _rows_of(catalog: Catalog, rows: RowArray) -> Iterable[tuple[int, Passage]]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE].tolist()
        found = catalog.fetch(part)
        yield from ((row, found[row]) for row in part)


def _write_shard(
    folder: Path, part: Embeddings, catalog: Catalog, factory: Factory, words: LexicalIndex | None, encoder: Encoder
) -> None:
    """Write one shard; its rows keep the numbers they have in the whole collection, which decide ties."""
    vectors = index_vectors(part, factory, part.work.catalog.parent / "faiss")
    own = Catalog.in_memory()
    own.insert(_rows_of(catalog, part.wanted))
    with PassageIndex(Contents(vectors, own, factory, words), encoder) as index:
        index.save(folder)


@dataclass(frozen=True)
class Statistics:
    """What BM25 knows of a collection as a whole.

    :param texts: number of texts.
    :param tokens: number of terms in all of them, repeated ones included.
    :param frequencies: for every term the number of texts that have it.
    """

    texts: int
    tokens: int
    frequencies: Counter[str]


def statistics_of(parts: Iterable[LexicalIndex]) -> Statistics:
    """Return the statistics of the collection that these indexes hold together."""
    texts, tokens = 0, 0
    frequencies: Counter[str] = Counter()
    for part in parts:
        arrays = part.to_arrays()
        counts = np.diff(_matrix(arrays)[0]).tolist()
        frequencies.update(dict(zip(_terms(arrays), counts, strict=True)))
        texts, tokens = texts + len(part), tokens + len(arrays["tokens"])
    return Statistics(texts, tokens, frequencies)


def with_statistics(lexical: LexicalIndex, whole: Statistics) -> LexicalIndex:
    """Return the same index with the scores that its texts have in the whole collection.

    :param lexical: BM25 over a part of it.
    :param whole: statistics of all of it, this part included.
    """
    arrays = lexical.to_arrays()
    starts, texts, counts = _matrix(arrays)
    settings = lexical_settings()
    k1, b = settings["k1"], settings["b"]
    mean = whole.tokens / whole.texts if whole.tokens else 1.0
    norms = k1 * ((1 - b) + b * np.diff(arrays["offsets"]) / mean)
    present = (whole.frequencies[term] for term in _terms(arrays))
    # float32, as bm25s keeps them, so that the products are those of one index.
    idf = np.array([math.log(1 + (whole.texts - n + 0.5) / (n + 0.5)) for n in present], dtype=np.float32)
    scores = np.repeat(idf, np.diff(starts)) * (counts / (counts + norms[texts]))
    data = scores.astype(arrays["data"].dtype)
    indices, indptr = texts.astype(arrays["indices"].dtype), starts.astype(arrays["indptr"].dtype)
    return LexicalIndex.from_arrays({**arrays, "data": data, "indices": indices, "indptr": indptr})


def _terms(arrays: dict[str, np.ndarray[Any, Any]]) -> list[str]:
    joined = arrays["terms"].tobytes().decode()
    return joined.split("\n") if joined else []


def _matrix(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Any, Any, Any]:
    """Return by term: where its texts begin, the texts (by position), and how often each has it."""
    lengths = np.diff(arrays["offsets"])
    n_texts, n_terms = len(lengths), len(_terms(arrays))
    keys = arrays["tokens"].astype(np.int64) * max(1, n_texts) + np.repeat(np.arange(n_texts), lengths)
    found, counts = np.unique(keys, return_counts=True)
    terms, texts = np.divmod(found, max(1, n_texts))
    starts = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=n_terms)[:n_terms])])
    return starts, texts, counts
