"""Token ids of texts that were tokenised before: an indexed corpus is tokenised once, not at every question.

A text is found by its hash, so an edited one is simply not found. The ids lie in one file, mapped into memory::

    ids | high | low | starts | counts | about (JSON) | length of about | mark

``ids`` are those of all texts, one after the other, in 2 bytes each where the vocabulary allows, else in 4. Of the n
texts, sorted by their hash, ``high`` and ``low`` are its halves, ``starts`` where their ids begin, and ``counts`` how
many tokens they have. Of a text with more than ``max_tokens`` only the count is kept.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMAT", "CacheInfo", "TokenIdCache", "TokenIdWriter", "TokenIds", "text_keys"]

FORMAT = 1

TokenIds: TypeAlias = NDArray[np.int32]

_MARK = b"bioTokId"
_END = struct.Struct("<Q8s")
_MAX_ABOUT = 1 << 20
_TABLE: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind) for name, kind in (("high", "<u8"), ("low", "<u8"), ("starts", "<i8"), ("counts", "<u4"))
}
_AT_ONCE = 4096  # texts that are copied, and thousands of ids that are checked, at a time


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the keys of texts, uint64 [n, 2]: the halves of their 128-bit BLAKE2b hashes."""
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)


@dataclass(frozen=True)
class CacheInfo:
    """What a cache was made with.

    :param tokenizer: fingerprint of the tokenizer; another one's ids are never used.
    :param vocabulary: every id is below this.
    :param max_tokens: the ids of a longer text are not kept.
    :param notes: what the owner of the cache wants to know later, as JSON types.
    :raises TypeError: if a value has another type; so has what was read from a damaged file.
    """

    tokenizer: str
    vocabulary: int
    max_tokens: int
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        types = {"tokenizer": str, "vocabulary": int, "max_tokens": int, "notes": Mapping}
        for name, expected in types.items():
            if not isinstance(getattr(self, name), expected):
                raise TypeError(f"{name} must be of type {expected.__name__}, got {getattr(self, name)!r:.80}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an id in the file."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")


class TokenIdCache:
    """Token ids by text; it never changes, and any number of threads may ask.

    :param info: what it was made with.
    :param ids: ids of all texts.
    :param table: ``high``, ``low``, ``starts`` and ``counts``, [n] each, by ascending ``high``.
    """

    def __init__(self, info: CacheInfo, ids: NDArray[Any], table: Mapping[str, NDArray[Any]]) -> None:
        self.info = info
        self._ids = ids
        self._table = table

    @classmethod
    def read(cls, path: Path) -> TokenIdCache:
        """Map a file into memory; what is in it is checked, except for the ids: see :meth:`check`.

        :raises ValueError: if it is no such file, or damaged.
        """
        with path.open("rb") as file:
            return cls.of(file)

    @classmethod
    def of(cls, file: BinaryIO) -> TokenIdCache:
        """Map an open file into memory, as :meth:`read`; it may be closed afterwards."""
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        about, stop = _about(mapped)
        try:
            n, n_ids = (_size(about.pop(name)) for name in ("entries", "ids"))
            info = CacheInfo(**about)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"what it says of itself is damaged: {error!r}") from error
        places = _places(n, n_ids, info.dtype)
        if places["end"] != stop:
            raise ValueError(f"it holds {stop} bytes of token ids, but says {places['end']}")
        table = {name: np.frombuffer(mapped, kind, n, places[name]) for name, kind in _TABLE.items()}
        cache = cls(info, np.frombuffer(mapped, info.dtype, n_ids), table)
        cache._check_table()
        return cache

    def __len__(self) -> int:
        return len(self._table["high"])

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where texts are, int64 [n]; -1 for one that is not there.

        :param keys: what :func:`text_keys` gives.
        """
        if not len(self):
            return np.full(len(keys), -1, dtype=np.int64)
        places = np.searchsorted(self._table["high"], keys[:, 0])
        places[places == len(self)] = 0
        same = (self._table["high"][places] == keys[:, 0]) & (self._table["low"][places] == keys[:, 1])
        return np.where(same, places, -1)

    def counts(self, places: NDArray[np.int64]) -> list[int]:
        """Return the number of tokens of texts that are there."""
        counts: list[int] = self._table["counts"][places].tolist()
        return counts

    def ids(self, places: NDArray[np.int64]) -> list[TokenIds]:
        """Return the ids of texts that are there, int32; none for one with more than ``info.max_tokens``.

        :raises ValueError: if an id is not in the vocabulary: the file is damaged.
        """
        starts, sizes = self._table["starts"][places], self._sizes(places)
        parts = [self._ids[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
        if not parts:
            return []
        flat = np.concatenate(parts, dtype=np.int32, casting="unsafe")
        self._refuse_unknown(flat.view(np.uint32))
        ends = np.cumsum(sizes).tolist()
        return [flat[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]

    def check(self) -> None:
        """Look at every id.

        :raises ValueError: if one is not in the vocabulary.
        """
        step = _AT_ONCE * 1024
        for start in range(0, len(self._ids), step):
            self._refuse_unknown(self._ids[start : start + step])

    def with_notes(self, notes: Mapping[str, Any]) -> TokenIdCache:
        """Return the same cache with other notes."""
        return TokenIdCache(replace(self.info, notes=notes), self._ids, self._table)

    def write(self, file: BinaryIO) -> None:
        """Write the file that :meth:`read` reads."""
        step = _AT_ONCE * 1024
        for start in range(0, len(self._ids), step):
            file.write(self._ids[start : start + step].tobytes())
        _write_rest(file, self.info, len(self._ids), self._table)

    def _sizes(self, places: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        counts = self._table["counts"][places].astype(np.int64)
        counts[counts > self.info.max_tokens] = 0
        return counts

    def _refuse_unknown(self, ids: NDArray[Any]) -> None:
        if len(ids) and int(ids.max()) >= self.info.vocabulary:
            raise ValueError(f"it holds the token id {ids.max()}, the vocabulary has {self.info.vocabulary}")

    def _check_table(self) -> None:
        high, starts = self._table["high"], self._table["starts"]
        if bool((high[1:] <= high[:-1]).any()):
            raise ValueError("its texts are not sorted")
        if bool((starts < 0).any()) or bool((starts > len(self._ids) - self._sizes(slice(None))).any()):
            raise ValueError("the ids of a text lie outside of it")


class TokenIdWriter:
    """Writes a cache piece by piece; only 28 bytes a text are held in memory.

    :param file: open, empty file.
    :param info: what the ids are made with.
    """

    def __init__(self, file: BinaryIO, info: CacheInfo) -> None:
        self._file = file
        self._info = info
        self._n_ids = 0
        self._parts: list[dict[str, NDArray[Any]]] = []

    def add(self, texts: Sequence[str], ids: Sequence[TokenIds]) -> None:
        """Add texts with their ids."""
        self._add(text_keys(texts), [len(own) for own in ids], ids)

    def copy(self, cache: TokenIdCache, keep: NDArray[np.uint64] | None = None) -> None:
        """Add what another cache holds.

        :param cache: the other one.
        :param keep: keys of the texts to take, if they are there; ``None`` for all.
        """
        places = np.arange(len(cache)) if keep is None else np.unique(cache.find(keep))
        places = places[places >= 0]
        # In the order of the file: one pass over it.
        places = places[np.argsort(cache._table["starts"][places], kind="stable")]
        for start in range(0, len(places), _AT_ONCE):
            part = places[start : start + _AT_ONCE]
            keys = np.stack([cache._table["high"][part], cache._table["low"][part]], axis=1)
            self._add(keys, cache.counts(part), cache.ids(part))

    def finish(self) -> None:
        """Write the rest; a text that came twice is kept once."""
        joined = {
            name: np.concatenate([np.empty(0, kind), *(part[name] for part in self._parts)]).astype(kind)
            for name, kind in _TABLE.items()
        }
        order = np.argsort(joined["high"], kind="stable")
        high = joined["high"][order]
        # Two different texts with the same first half are too rare to be worth more: the second is not found.
        order = order[np.concatenate([np.ones(len(high[:1]), bool), high[1:] != high[:-1]])]
        _write_rest(self._file, self._info, self._n_ids, {name: column[order] for name, column in joined.items()})
        self._file.flush()

    def _add(self, keys: NDArray[np.uint64], counts: Sequence[int], ids: Sequence[TokenIds]) -> None:
        kept = [own if count <= self._info.max_tokens else own[:0] for own, count in zip(ids, counts, strict=True)]
        sizes = np.array([len(own) for own in kept], dtype=np.int64)
        starts = self._n_ids + np.cumsum(sizes) - sizes
        if len(kept):
            self._file.write(np.concatenate(kept).astype(self._info.dtype).tobytes())
        self._n_ids += int(sizes.sum())
        # A count that 4 bytes cannot hold is as good as any other that is too many.
        columns = keys[:, 0], keys[:, 1], starts, np.minimum(np.array(counts, np.int64), np.iinfo(np.uint32).max)
        self._parts.append({name: column.astype(_TABLE[name]) for name, column in zip(_TABLE, columns, strict=True)})


def _places(n: int, n_ids: int, dtype: np.dtype[Any]) -> dict[str, int]:
    """Return at which byte each column begins, and where the last one ends."""
    place = -(-n_ids * dtype.itemsize // 8) * 8
    places = {}
    for name, kind in _TABLE.items():
        places[name] = place
        place += n * kind.itemsize
    return {**places, "end": place}


def _write_rest(file: BinaryIO, info: CacheInfo, n_ids: int, table: Mapping[str, NDArray[Any]]) -> None:
    file.write(bytes(-n_ids * info.dtype.itemsize % 8))
    for name in _TABLE:
        file.write(table[name].tobytes())
    sizes = {"format": FORMAT, "entries": len(table["high"]), "ids": n_ids}
    about = json.dumps({**sizes, **{name: getattr(info, name) for name in CacheInfo.__dataclass_fields__}}).encode()
    file.write(about + _END.pack(len(about), _MARK))


def _about(mapped: mmap.mmap) -> tuple[dict[str, Any], int]:
    """Return what a file says of itself, and how many bytes stand before that."""
    if len(mapped) < _END.size or mapped[-8:] != _MARK:
        raise ValueError("it holds no token ids")
    length, _ = _END.unpack(mapped[-_END.size :])
    stop = len(mapped) - _END.size - length
    if length > _MAX_ABOUT or stop < 0:
        raise ValueError("what it says of itself is damaged: it is too long")
    about = json.loads(mapped[stop : stop + length])
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise ValueError(f"it has the format {found!r:.20}, this release reads {FORMAT}")
    del about["format"]
    return about, stop


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 48:
        raise ValueError(f"{value!r:.40} is no size")
    return value
