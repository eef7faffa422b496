"""(query, passage) pairs as token ids: tokenised separately, without truncation, and put together by us.

So a query is tokenised once, only the passage is ever cut, and threads share no truncation state of a tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins.runtime.text_ids import (
    TextIds,
    TokenIds,
    UnsupportedTokenizerError,
    warn_if_cased_vocabulary_is_lowered,
)
from biorerank_plugins.text.windows import window_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from biorerank_plugins.text.windows import Span, WindowedText, Windows

_AT_THE_EDGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPair:
    """Token ids of one pair with special tokens (int32 [n]), segment ids (uint8 [n]), and what was cut.

    Pairs of the same query share memory: neither array may be changed.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8]
    truncated: bool
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What the pairs of one query have in common."""

    ids: TokenIds  # what stands before the passage
    types: NDArray[np.uint8]  # of a pair whose passage takes up all the room, without what stands after it
    room: int  # tokens that are left for a passage
    truncated: bool  # whether the query was cut


@dataclass(frozen=True, slots=True)
class _Template:
    """What a tokenizer puts around the two halves of a pair: for BERT ``[CLS] query [SEP] passage [SEP]``."""

    before: TokenIds
    between: TokenIds
    after: TokenIds
    before_types: NDArray[np.uint8]
    query_type: int
    between_types: NDArray[np.uint8]
    passage_type: int
    after_types: NDArray[np.uint8]
    one_run: bool  # whether what stands after the passage has its segment id

    @property
    def special_tokens(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def beginning(self, query: TokenIds, query_max_length: int, max_length: int) -> _Beginning:
        kept = query[:query_max_length]
        room = max_length - len(kept) - self.special_tokens
        query_types = np.full(len(kept), self.query_type, np.uint8)
        run = np.full(room + len(self.after), self.passage_type, np.uint8)
        return _Beginning(
            np.concatenate((self.before, kept, self.between)),
            np.concatenate((self.before_types, query_types, self.between_types, run)),
            room,
            truncated=len(kept) < len(query),
        )

    def join(self, beginning: _Beginning, passage: TokenIds) -> EncodedPair:
        """Return a pair; this runs for every passage."""
        cut = len(passage) > beginning.room
        ids = np.concatenate((beginning.ids, passage[: beginning.room] if cut else passage, self.after))
        types = beginning.types[: len(ids)]
        if not self.one_run:
            types = np.concatenate((types[: len(ids) - len(self.after)], self.after_types))
        return EncodedPair(ids, types, cut, beginning.truncated)


class PairTokenizer:
    """Turns pairs into token ids.

    :param tokenizer: a fast tokenizer of transformers; it is copied.
    :param max_length: tokens a pair, special tokens included.
    :param query_max_length: tokens a query; a longer one is cut there where the pair does not fit otherwise.
    :raises UnsupportedTokenizerError: if the tokenizer is no fast one, or builds pairs in another way than by putting
        fixed special tokens around the halves.
    :raises ValueError: if the lengths leave no room for a passage.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, query_max_length: int) -> None:
        self.texts = TextIds(tokenizer)
        if "left" in (tokenizer.padding_side, tokenizer.truncation_side):
            raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} pads or cuts on the left.")
        self._template = _learn_template(self.texts.tokenizer)
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
        warn_if_cased_vocabulary_is_lowered(self.texts.tokenizer)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Return the token ids of pairs; a query that occurs again is tokenised once."""
        cut = self._beginnings(query for query, _ in pairs)
        whole = self._whole_beginnings(cut)
        texts = list(dict.fromkeys(text for _, text in pairs))
        ids = dict(zip(texts, self.texts.of(texts), strict=True))
        join = self._template.join
        encoded = []
        for query, text in pairs:
            beginning = whole.get(query) if whole else None
            if beginning is None or len(ids[text]) > beginning.room:
                beginning = cut[query]
            encoded.append(join(beginning, ids[text]))
        return encoded

    @property
    def least_room(self) -> int:
        """Tokens that are left for a passage beside the longest query."""
        return self.max_length - self.query_max_length - self._template.special_tokens

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[Span]]:
        """Return the windows in which passages are read, as spans of their body; none for one read as a whole."""
        beginnings = self._beginnings(query for query, _ in items)
        rooms: dict[str, int] = {}
        for query, text in items:
            rooms[text.whole] = min(beginnings[query].room, rooms.get(text.whole, self.max_length))
        offsets = dict(zip(rooms, self.texts.measure(list(rooms), list(rooms.values())), strict=True))
        return [self._spans(text, offsets[text.whole], beginnings[query].room, windows) for query, text in items]

    def _spans(self, text: WindowedText, offsets: NDArray[np.int64] | None, whole: int, windows: Windows) -> list[Span]:
        if offsets is None or len(offsets) <= whole:
            return []
        around = sum(map(len, self.texts.tokenise([text.head, text.tail])))
        # A word at the edge of a window may have more tokens by itself than it had in the whole text. A title so
        # long that it leaves no room is no reason to cut the passage into crumbs: then each window loses its end.
        room = max(whole - around - _AT_THE_EDGES, whole // 4, 1)
        room = room if windows.length is None else min(room, windows.length)
        start, stop = len(text.head), len(text.head) + len(text.body)
        # A token may belong to the body and to what stands before it, as "▁" or "Ġ" to the space.
        inside = offsets[(offsets[:, 1] > start) & (offsets[:, 0] < stop)]
        return window_spans(text.body, np.clip(inside, start, stop) - start, room, windows.stride)

    def _beginnings(self, queries: Iterable[str]) -> dict[str, _Beginning]:
        different = list(dict.fromkeys(queries))
        return {
            query: self._template.beginning(ids, self.query_max_length, self.max_length)
            for query, ids in zip(different, self.texts.tokenise(different), strict=True)
        }

    def _whole_beginnings(self, cut: Mapping[str, _Beginning]) -> dict[str, _Beginning]:
        """Return the beginnings of the queries that are cut, with all of the query, where that leaves any room."""
        long = [query for query, beginning in cut.items() if beginning.truncated]
        found = {}
        for query, ids in zip(long, self.texts.tokenise(long) if long else (), strict=True):
            if len(ids) + self._template.special_tokens < self.max_length:
                found[query] = self._template.beginning(ids, len(ids), self.max_length)
        return found

    def _check_against(self, tokenizer: Any) -> None:
        """Compare with what transformers itself builds: a pair template that we misread must not score wrongly."""
        # Calling it changes its truncation state, which other threads may be using.
        tokenizer = copy.deepcopy(tokenizer)
        for query, text in (("Is p53 a tumour suppressor?", "It is, in 50% of cases."), ("a", "b c"), ("", "b")):
            first, second = self.texts.tokenise([query, text])
            theirs = tokenizer(query, text)
            longest = len(first) + len(second) + self._template.special_tokens
            ours = self._template.join(self._template.beginning(first, longest, longest), second)
            same = ours.ids.tolist() == theirs["input_ids"]
            if not same or (self.has_types and ours.types.tolist() != theirs["token_type_ids"]):
                raise UnsupportedTokenizerError(f"{type(tokenizer).__name__} builds pairs in its own way.")


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
    ids, types = np.array(pair.ids, dtype=np.int32), np.array(pair.type_ids, dtype=np.uint8)
    return _Template(
        before=ids[:q0],
        between=ids[q1:p0],
        after=ids[p1:],
        before_types=types[:q0],
        query_type=pair.type_ids[q0],
        between_types=types[q1:p0],
        passage_type=pair.type_ids[p0],
        after_types=types[p1:],
        one_run=bool((types[p1:] == types[p0]).all()),
    )


def padded_inputs(pairs: Sequence[EncodedPair], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Return what transformers takes for a batch: ids, mask and segment ids, [n, longest] each."""
    shape = len(pairs), max(len(pair.ids) for pair in pairs)
    ids, mask, types = np.full(shape, pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair.ids)] = pair.ids
        mask[row, : len(pair.ids)] = 1
        types[row, : len(pair.ids)] = pair.types
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def tokens_of(pairs: Sequence[EncodedPair], *, padded: bool) -> int:
    """Return how many tokens pairs count as in one batch, where all are padded to the longest, or are not."""
    lengths = [len(pair.ids) for pair in pairs]
    return len(lengths) * max(lengths) if padded else sum(lengths)
