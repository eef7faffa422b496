"""Token ids of single texts, with a tokenizer that nobody else uses."""

from __future__ import annotations

import hashlib
import logging
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.token_cache import CacheInfo, TokenIdCache, TokenIds, text_keys

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

logger = logging.getLogger(__name__)

__all__ = ["TextIds", "UnsupportedTokenizerError"]

_TEXTS_AT_ONCE = 2048  # an encoding holds offsets and words beside its ids: kilobytes that must not pile up
_LONG_TEXTS_AT_ONCE = 256
_HANDED_OVER = 2_000_000  # ids: 8 MB
# What differs between releases of the tokenizer library, if anything: normal forms, classes of characters.
_PROBE = "TP53's Å-loop (β₂, ﬁg. 3½) 가나 e\u0301 ẞ İ 中文 \u200d😀\u3000 10⁻³ µg/ml ÆØ Ⅷ [SEP] \u0130\u00ad\ufffd"


class UnsupportedTokenizerError(Exception):
    """Pairs cannot be put together from separate ids for this tokenizer; the model is run by sentence-transformers."""


class TextIds:
    """Turns texts into token ids without special tokens; does not tokenise what an attached cache holds.

    :param tokenizer: a fast tokenizer of transformers; it is copied.
    :raises UnsupportedTokenizerError: if it is no fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} is no fast tokenizer.")
        self.tokenizer = _private_copy(backend)
        self._caches: tuple[weakref.ref[TokenIdCache], ...] = ()
        self._known: weakref.WeakSet[TokenIdCache] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._measured = _HandOver()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that the ids depend on; the same for the same tokenizer, wherever it was loaded from."""
        state = hashlib.sha256(self.tokenizer.to_str().encode())
        # The library itself is not part of its state: what another release tokenises otherwise shows here.
        state.update(np.concatenate(self.tokenise([_PROBE, _PROBE.replace(" ", "")])).tobytes())
        return state.hexdigest()

    def cache_info(self, max_tokens: int) -> CacheInfo:
        """Return what a cache of these ids says of itself, without notes.

        :param max_tokens: see :class:`CacheInfo`.
        """
        vocabulary = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0) + 1
        return CacheInfo(self.fingerprint, vocabulary, max_tokens)

    def use(self, cache: TokenIdCache) -> None:
        """Look into a cache from now on, as long as somebody else holds it; one of another tokenizer is not used.

        :param cache: token ids of texts. Any number of caches may be given, the same one more than once.
        """
        with self._lock:
            if cache in self._known:
                return
            self._known.add(cache)
            if cache.info.tokenizer != self.fingerprint:
                logger.info(
                    "The token ids that are stored with the index are not used: they are of another tokenizer. "
                    "PassageIndex.cache_tokens(reranker) stores those of this reranker."
                )
                return
            self._caches = (*(ref for ref in self._caches if ref() is not None), weakref.ref(cache))

    def of(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the ids of texts, int32 each.

        :param texts: different texts.
        """
        ids = self._measured.take(texts)
        missing = [number for number, own in enumerate(ids) if own is None]
        for number, hit in zip(missing, self._cached([texts[number] for number in missing]), strict=True):
            ids[number] = None if hit is None else hit[1]
        missing = [number for number in missing if ids[number] is None]
        for number, own in zip(missing, self.tokenise([texts[number] for number in missing]), strict=True):
            ids[number] = own
        return [own for own in ids if own is not None]

    def measure(self, texts: Sequence[str], rooms: Sequence[int]) -> list[NDArray[np.int64] | None]:
        """Return where the tokens lie in each text that has more of them than there is room.

        The ids of the others, for which it returns ``None``, are kept for a call of :meth:`of` soon after.

        :param texts: different texts.
        :param rooms: tokens that there is room for, one number a text.
        :returns: [tokens, 2]: first code point of each token, and one past its last.
        """
        found: list[NDArray[np.int64] | None] = [None] * len(texts)
        missing = []
        for number, hit in enumerate(self._cached(texts)):
            if hit is not None and hit[0] <= rooms[number] and hit[1] is not None:
                self._measured.put(texts[number], hit[1])
            else:
                missing.append(number)
        for start in range(0, len(missing), _LONG_TEXTS_AT_ONCE):
            part = missing[start : start + _LONG_TEXTS_AT_ONCE]
            encoded = self.tokenizer.encode_batch([texts[number] for number in part], add_special_tokens=False)
            for number, encoding in zip(part, encoded, strict=True):
                if len(encoding) <= rooms[number]:
                    self._measured.put(texts[number], _ids(encoding))
                else:
                    found[number] = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return found

    def tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the ids of texts without looking into any cache."""
        ids: list[TokenIds] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            ids += map(_ids, self.tokenizer.encode_batch_fast(part, add_special_tokens=False))
        return ids

    def _cached(self, texts: Sequence[str]) -> list[tuple[int, TokenIds | None] | None]:
        """Return the number of tokens and, unless they are too many to be stored, the ids of texts in the caches."""
        found: list[tuple[int, TokenIds | None] | None] = [None] * len(texts)
        caches = [cache for ref in self._caches if (cache := ref()) is not None]
        if not caches or not texts:
            return found
        keys = text_keys(texts)
        for cache in caches:
            missing = np.array([number for number, hit in enumerate(found) if hit is None], dtype=np.int64)
            places = cache.find(keys[missing])
            there = places >= 0
            try:
                counts, ids = cache.counts(places[there]), cache.ids(places[there])
            except ValueError as error:
                self._forget(cache, error)
                continue
            for number, count, own in zip(missing[there].tolist(), counts, ids, strict=True):
                found[number] = count, own if len(own) == count else None
        misses = found.count(None)
        telemetry.count("cache.lookups", misses, cache="token_ids", hit=False)
        telemetry.count("cache.lookups", len(found) - misses, cache="token_ids", hit=True)
        return found

    def _forget(self, cache: TokenIdCache, reason: ValueError) -> None:
        logger.warning(
            "The token ids that are stored with the index are damaged: %s. They are not used any more; "
            "PassageIndex.cache_tokens(reranker) stores them anew.",
            reason,
        )
        with self._lock:
            self._caches = tuple(ref for ref in self._caches if ref() is not cache)


class _HandOver:
    """Ids of texts that were tokenised a moment ago: whoever asks next gets them, once."""

    def __init__(self) -> None:
        self._ids: dict[str, TokenIds] = {}
        self._size = 0
        self._lock = threading.Lock()

    def put(self, text: str, ids: TokenIds) -> None:
        with self._lock:
            self._drop(text)
            self._ids[text] = ids
            self._size += len(ids)
            while self._size > _HANDED_OVER:
                self._drop(next(iter(self._ids)))

    def take(self, texts: Sequence[str]) -> list[TokenIds | None]:
        with self._lock:
            return [self._drop(text) for text in texts] if self._ids else [None] * len(texts)

    def _drop(self, text: str) -> TokenIds | None:
        ids = self._ids.pop(text, None)
        self._size -= 0 if ids is None else len(ids)
        return ids


def _ids(encoding: Encoding) -> TokenIds:
    return np.array(encoding.ids, dtype=np.int32)


def _private_copy(backend: Tokenizer) -> Tokenizer:
    from tokenizers import Tokenizer as FastTokenizer

    private = FastTokenizer.from_str(backend.to_str())
    private.no_truncation()
    private.no_padding()
    return private
