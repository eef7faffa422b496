"""(query, passage) pairs as token ids, with a tokenizer that nobody else uses.

Query and passage are tokenised separately, without truncation, and put together by us. So a query is tokenised once,
only the passage is ever cut, and no truncation state is shared between threads (a shared fast tokenizer whose settings
change between calls cuts texts of one thread at the length of another, silently).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins.windows import window_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from biorerank_plugins.windows import WindowedText, Windows

logger = logging.getLogger(__name__)

__all__ = ["EncodedPair", "PairTokenizer", "UnsupportedTokenizerError", "warn_if_cased_vocabulary_is_lowered"]


TokenIds: TypeAlias = NDArray[np.int32]

_AT_THE_EDGES = 4
_TEXTS_AT_ONCE = 2048  # an encoding holds offsets and words beside its ids: kilobytes that must not pile up


class UnsupportedTokenizerError(Exception):
    """Pairs cannot be put together from separate ids for this tokenizer; the model is run by sentence-transformers."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPair:
    """Token ids of one pair with special tokens (int32 [n]), segment ids (uint8 [n]), and what was cut."""

    ids: NDArray[np.int32]
    types: NDArray[np.uint8]
    truncated: bool
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class _Template:
    """What a tokenizer puts around the two halves of a pair: for BERT ``[CLS] query [SEP] passage [SEP]``."""

    before: list[int]
    between: list[int]
    after: list[int]
    before_types: list[int]
    query_type: int
    between_types: list[int]
    passage_type: int
    after_types: list[int]

    @property
    def special_tokens(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def ids(self, query: TokenIds, passage: TokenIds) -> TokenIds:
        parts = (self.before, query, self.between, passage, self.after)
        return np.concatenate(parts, dtype=np.int32, casting="unsafe")

    def types(self, query: TokenIds, passage: TokenIds) -> NDArray[np.uint8]:
        halves = [self.query_type] * len(query), [self.passage_type] * len(passage)
        return np.array([*self.before_types, *halves[0], *self.between_types, *halves[1], *self.after_types], np.uint8)


class PairTokenizer:
    """Turns pairs into token ids.

    :param tokenizer: a fast tokenizer of transformers; it is copied.
    :param max_length: tokens a pair, special tokens included.
    :param query_max_length: tokens a query; a longer query is cut there, whatever the passage.
    :raises UnsupportedTokenizerError: if the tokenizer is no fast one, or builds pairs in another way than by putting
        fixed special tokens around the halves.
    :raises ValueError: if the lengths leave no room for a passage.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, query_max_length: int) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} is no fast tokenizer.")
        if "left" in (tokenizer.padding_side, tokenizer.truncation_side):
            raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} pads or cuts on the left.")
        self._tokenizer = _private_copy(backend)
        self._template = _learn_template(self._tokenizer)
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self.has_types = "token_type_ids" in tokenizer.model_input_names
        self.max_length = max_length
        self.query_max_length = query_max_length
        least = query_max_length + self._template.special_tokens + 1
        if max_length < least:
            raise ValueError(
                f"max_length={max_length} leaves no room for a passage beside a query of query_max_length="
                f"{query_max_length} tokens; it must be at least {least}. Lower query_max_length."
            )
        self._check_against(tokenizer)
        warn_if_cased_vocabulary_is_lowered(self._tokenizer)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Return the token ids of pairs; a query that occurs again is tokenised once.

        :param pairs: (query, text) pairs.
        """
        queries = list(dict.fromkeys(query for query, _ in pairs))
        texts = list(dict.fromkeys(text for _, text in pairs))
        query_ids = dict(zip(queries, self._ids(queries), strict=True))
        text_ids = dict(zip(texts, self._ids(texts), strict=True))
        return [self._join(query_ids[query], text_ids[text]) for query, text in pairs]

    @property
    def least_room(self) -> int:
        """Tokens that are left for a passage beside the longest query."""
        return self.max_length - self.query_max_length - self._template.special_tokens

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[tuple[int, int]]]:
        """Return the windows in which passages are read, as spans of their body.

        :param items: (query, passage) pairs.
        :param windows: how long they are, and how far they overlap.
        """
        queries = list(dict.fromkeys(query for query, _ in items))
        sizes = {q: min(len(ids), self.query_max_length) for q, ids in zip(queries, self._ids(queries), strict=True)}
        heads = [len(ids) for ids in self._ids([text.head for _, text in items])]
        tails = [len(ids) for ids in self._ids([text.tail for _, text in items])]
        found = []
        for (query, text), around in zip(items, map(sum, zip(heads, tails, strict=True)), strict=True):
            whole = self.max_length - self._template.special_tokens - sizes[query]
            offsets = np.array(self._tokenizer.encode(text.body, add_special_tokens=False).offsets, np.int64)
            if len(offsets) + around <= whole:
                found.append([(0, len(text.body))])
                continue
            # A word at the edge of a window may have more tokens by itself than it had in the whole text. A title so
            # long that it leaves no room is no reason to cut the passage into crumbs: then each window loses its end.
            room = max(whole - around - _AT_THE_EDGES, whole // 4, 1)
            room = room if windows.length is None else min(room, windows.length)
            found.append(window_spans(text.body, offsets.reshape(-1, 2), room, windows.stride))
        return found

    def _ids(self, texts: list[str]) -> list[TokenIds]:
        ids: list[TokenIds] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = self._tokenizer.encode_batch_fast(texts[start : start + _TEXTS_AT_ONCE], add_special_tokens=False)
            ids += [np.array(encoding.ids, dtype=np.int32) for encoding in part]
        return ids

    def _join(self, query: TokenIds, passage: TokenIds) -> EncodedPair:
        t = self._template
        kept_query = query[: self.query_max_length]
        kept = passage[: self.max_length - len(kept_query) - t.special_tokens]
        return EncodedPair(
            ids=t.ids(kept_query, kept),
            types=t.types(kept_query, kept),
            truncated=len(kept) < len(passage),
            query_truncated=len(kept_query) < len(query),
        )

    def _check_against(self, tokenizer: Any) -> None:
        """Compare with what transformers itself builds: a pair template that we misread must not score wrongly."""
        # Calling it changes its truncation state, which other threads may be using.
        tokenizer = copy.deepcopy(tokenizer)
        for query, text in (("Is p53 a tumour suppressor?", "It is, in 50% of cases."), ("a", "b c"), ("", "b")):
            halves = self._ids([query, text])
            theirs = tokenizer(query, text)
            ids, types = self._template.ids(*halves), self._template.types(*halves)
            same = ids.tolist() == theirs["input_ids"]
            if not same or (self.has_types and types.tolist() != theirs["token_type_ids"]):
                raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} builds pairs in its own way.")


def _private_copy(backend: Tokenizer) -> Tokenizer:
    from tokenizers import Tokenizer as FastTokenizer

    private = FastTokenizer.from_str(backend.to_str())
    private.no_truncation()
    private.no_padding()
    return private


def _learn_template(tokenizer: Tokenizer) -> _Template:
    """Read off one encoded pair what stands before, between and after the halves."""
    query, text = tokenizer.encode("a b", add_special_tokens=False), tokenizer.encode("c d e", add_special_tokens=False)
    pair = tokenizer.encode("a b", "c d e")
    sequences = list(pair.sequence_ids)
    if 0 not in sequences or 1 not in sequences:
        raise UnsupportedTokenizerError("The tokenizer does not build pairs.")
    q0, p0 = sequences.index(0), sequences.index(1)
    q1, p1 = q0 + len(query.ids), p0 + len(text.ids)
    if pair.ids[q0:q1] != query.ids or pair.ids[p0:p1] != text.ids or p0 < q1:
        raise UnsupportedTokenizerError("The tokenizer changes the halves of a pair.")
    return _Template(
        before=pair.ids[:q0],
        between=pair.ids[q1:p0],
        after=pair.ids[p1:],
        before_types=pair.type_ids[:q0],
        query_type=pair.type_ids[q0],
        between_types=pair.type_ids[q1:p0],
        passage_type=pair.type_ids[p0],
        after_types=pair.type_ids[p1:],
    )


def warn_if_cased_vocabulary_is_lowered(tokenizer: Tokenizer) -> None:
    """Warn when capitals of a cased vocabulary can never be reached: BioBERT's hub files miss a tokenizer config."""
    tokens = [token for token in tokenizer.get_vocab() if not token.startswith(("[", "<"))]
    # ASCII only: byte-level vocabularies write a space as a capital letter (Ġ).
    capitals = sum(1 for token in tokens if any("A" <= letter <= "Z" for letter in token))
    lowered = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"
    if lowered and capitals > 0.05 * len(tokens):
        logger.warning(
            "The tokenizer lower-cases text but its vocabulary is cased (%d of %d entries have capitals): scores will "
            "suffer. Save the model with do_lower_case=False in its tokenizer configuration.",
            capitals,
            len(tokens),
        )
