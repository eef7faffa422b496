"""Scores that were computed before: the same pair, in the same model, is not computed again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.scoring.scores import PairScores

Pair = tuple[str, str]

ENTRY_BYTES = 320
"""What an entry takes, at most: a key of 16 bytes, a number, and their places in an ordered table."""


class ScoreCacheInfo(NamedTuple):
    """How well a cache does: pairs that were found, and not; pairs in it now, what they take, and what they may."""

    hits: int
    misses: int
    entries: int
    bytes: int
    max_bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of the pairs that were found; 0 before any was looked for."""
        return self.hits / max(1, self.hits + self.misses)


class ScoreCache:
    """Logits by model and text of a pair; the pair not asked for in the longest time goes first.

    Any number of threads may use it. Only finite logits are kept, and none of a call that failed. What comes out is
    what was computed then: a pair that is computed anew beside other pairs may differ in the last bits of its logit
    (1e-5 in fp32, more in half precision).

    :param max_bytes: what it may take; :data:`ENTRY_BYTES` a pair.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._most = max_bytes // ENTRY_BYTES
        self._entries: OrderedDict[bytes, int] = OrderedDict()
        self._hits = self._misses = 0
        self._lock = Lock()

    def scores(self, model: bytes, pairs: Sequence[Pair], compute: Callable[[list[Pair]], PairScores]) -> PairScores:
        """Return the scores of pairs.

        :param model: hash of everything else that scores depend on.
        :param pairs: different (query, text) pairs.
        :param compute: gives the scores of those that are not here; not called if all are.
        """
        keys = _keys(model, pairs)
        found = self._find(keys)
        missing = [place for place, value in enumerate(found) if value is None]
        packed = np.array([0 if value is None else value for value in found], dtype=np.int64)
        if missing:
            fresh = compute([pairs[place] for place in missing])
            packed[missing] = _pack(fresh)
            finite = np.isfinite(fresh.logits).tolist()
            good = [place for place, fine in zip(missing, finite, strict=True) if fine]
            self._keep([keys[place] for place in good], packed[good].tolist())
        return _unpack(packed)

    def info(self) -> ScoreCacheInfo:
        """Return how well it does."""
        with self._lock:
            n = len(self._entries)
            return ScoreCacheInfo(self._hits, self._misses, n, n * ENTRY_BYTES, self._max_bytes)

    def _find(self, keys: list[bytes]) -> list[int | None]:
        with self._lock:
            found = [self._entries.get(key) for key in keys]
            for key, value in zip(keys, found, strict=True):
                if value is not None:
                    self._entries.move_to_end(key)
            misses = found.count(None)
            self._misses += misses
            self._hits += len(keys) - misses
        telemetry.count("cache.lookups", misses, cache="scores", hit=False)
        telemetry.count("cache.lookups", len(keys) - misses, cache="scores", hit=True)
        return found

    def _keep(self, keys: list[bytes], values: list[int]) -> None:
        with self._lock:
            for key, value in zip(keys[-self._most :], values[-self._most :], strict=True):
                self._entries[key] = value
                self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)


def _keys(model: bytes, pairs: Sequence[Pair]) -> list[bytes]:
    begun = {}
    for query in {query for query, _ in pairs}:
        encoded = query.encode("utf-8", "surrogatepass")
        begun[query] = hashlib.blake2b(b"%s %d %s" % (model, len(encoded), encoded), digest_size=16)
    keys = []
    for query, text in pairs:
        key = begun[query].copy()
        key.update(text.encode("utf-8", "surrogatepass"))
        keys.append(key.digest())
    return keys


def _pack(scores: PairScores) -> NDArray[np.int64]:
    """Write a logit and its two flags as one number: half as much memory as a tuple."""
    bits = np.ascontiguousarray(scores.logits, dtype=np.float32).view(np.uint32).astype(np.int64)
    return bits << 2 | scores.truncated.astype(np.int64) << 1 | scores.query_truncated.astype(np.int64)


def _unpack(packed: NDArray[np.int64]) -> PairScores:
    logits = (packed >> 2).astype(np.uint32).view(np.float32)
    return PairScores(logits, (packed & 2).astype(np.bool_), (packed & 1).astype(np.bool_))
