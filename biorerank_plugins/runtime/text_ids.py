"""Token ids of single texts, with a tokenizer that nobody else uses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

logger = logging.getLogger(__name__)

TokenIds: TypeAlias = NDArray[np.int32]

_TEXTS_AT_ONCE = 2048  # an encoding holds offsets and words beside its ids: kilobytes that must not pile up
_LONG_TEXTS_AT_ONCE = 256
_HANDED_OVER = 2_000_000  # ids: 8 MB


class UnsupportedTokenizerError(Exception):
    """Pairs cannot be put together from separate ids for this tokenizer; the model is run by sentence-transformers."""


def lowers_cased_vocabulary(tokenizer: Tokenizer) -> bool:
    """Return whether capitals of a vocabulary can never be reached, as where BioBERT's hub files lack a config."""
    normalizer = tokenizer.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return False
    capitals, entries = _capitals(tokenizer)
    return capitals > 0.05 * entries


def warn_if_cased_vocabulary_is_lowered(tokenizer: Tokenizer) -> None:
    """Warn when capitals of a vocabulary can never be reached."""
    if lowers_cased_vocabulary(tokenizer):
        logger.warning(
            "The tokenizer lower-cases text but its vocabulary is cased (%d of %d entries have capitals): scores will "
            "suffer. Save the model with do_lower_case=False in its tokenizer configuration.",
            *_capitals(tokenizer),
        )


def _capitals(tokenizer: Tokenizer) -> tuple[int, int]:
    """Return how many entries of a vocabulary have capitals, and how many there are, special ones left out."""
    tokens = [token for token in tokenizer.get_vocab() if not token.startswith(("[", "<"))]
    # ASCII only: byte-level vocabularies write a space as a capital letter (Ġ).
    return sum(1 for token in tokens if any("A" <= letter <= "Z" for letter in token)), len(tokens)


class TextIds:
    """Turns texts into token ids without special tokens, with a copy of a fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} is no fast tokenizer.")
        from tokenizers import Tokenizer

        self.tokenizer: Tokenizer = Tokenizer.from_str(backend.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._measured = _HandOver()

    def of(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the ids of different texts, int32 each."""
        ids = self._measured.take(texts)
        missing = [number for number, own in enumerate(ids) if own is None]
        for number, own in zip(missing, self.tokenise([texts[number] for number in missing]), strict=True):
            ids[number] = own
        return [own for own in ids if own is not None]

    def measure(self, texts: Sequence[str], rooms: Sequence[int]) -> list[NDArray[np.int64] | None]:
        """Return where the tokens lie in each text that has more of them than there is room.

        The ids of the others, for which it returns ``None``, are kept for a call of :meth:`of` soon after.

        :returns: [tokens, 2]: first code point of each token, and one past its last.
        """
        found: list[NDArray[np.int64] | None] = [None] * len(texts)
        for start in range(0, len(texts), _LONG_TEXTS_AT_ONCE):
            part = list(texts[start : start + _LONG_TEXTS_AT_ONCE])
            encoded = self.tokenizer.encode_batch(part, add_special_tokens=False)
            for number, encoding in enumerate(encoded, start):
                if len(encoding) <= rooms[number]:
                    self._measured.put(texts[number], _ids(encoding))
                else:
                    found[number] = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return found

    def tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the ids of texts, int32 each, equal ones too."""
        ids: list[TokenIds] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            ids += map(_ids, self.tokenizer.encode_batch_fast(part, add_special_tokens=False))
        return ids


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
