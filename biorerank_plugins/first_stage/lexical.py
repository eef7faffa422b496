"""BM25 over the passages of an index, found by row number like their vectors."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from biorerank_plugins._common.progress import without_bars
from biorerank_plugins.first_stage import analysis
from biorerank_plugins.first_stage.definitions import Definitions
from biorerank_plugins.first_stage.vectors import FloatArray, Found, RowArray, best
from biorerank_plugins.passages import Passage
from biorerank_plugins.text.abbreviations import definitions_in
from biorerank_plugins.text.templates import passage_text

K1 = 0.9  # Anserini's values, chosen for short passages
B = 0.4
OTHER_FORMS_WEIGHT = 0.1
"""What other forms of a query's abbreviations count beside its own words: ``benchmarks/quality/abbreviations.py``."""

_SCORES = ("data", "indices", "indptr")  # a matrix of texts by terms, as bm25s keeps it

TokenArray = np.ndarray[Any, np.dtype[np.int32]]


def passage_texts(
    passages: Iterable[tuple[int, Passage]], encoder_config: Mapping[str, Any]
) -> Iterator[tuple[int, str]]:
    """Yield row and text of passages: title and text, unless the bi-encoder beside BM25 omits titles."""
    with_title = encoder_config.get("title") != "omit"
    for row, passage in passages:
        yield row, passage_text(passage) if with_title else passage.text


def index_passages(passages: Iterable[tuple[int, Passage]], encoder_config: Mapping[str, Any]) -> LexicalIndex:
    """Return BM25 over the texts that :func:`passage_texts` gives."""
    return LexicalIndex.build(passage_texts(passages, encoder_config))


@dataclass(frozen=True)
class Matches:
    """The BM25 score of every passage for one query.

    :param rows: ``[n]`` row numbers, ascending.
    :param scores: ``[n]``, 0 for a passage that shares no term with the query.
    """

    rows: RowArray
    scores: FloatArray

    def best(self, k: int, allowed: RowArray | None = None) -> Found:
        """Return at most ``k`` passages that share a term with the query, of the ``allowed`` rows, which ascend."""
        positions = np.arange(len(self.rows)) if allowed is None else np.searchsorted(self.rows, allowed)
        positions = positions[self.scores[positions] > 0]
        if len(positions) > k:
            # Whoever has the k-th score stays: which of several equal ones goes is decided below, by row.
            last = np.partition(self.scores[positions], -k)[-k]
            positions = positions[self.scores[positions] >= last]
        return best((self.scores[positions], self.rows[positions]), k)

    def of(self, rows: RowArray) -> FloatArray:
        """Return the scores of these rows, in their order; each must be in the index."""
        return self.scores[np.searchsorted(self.rows, rows)]


class LexicalIndex:
    """BM25 (Lucene's variant, k1 = 0.9, b = 0.4) over texts; many threads may search at once.

    It never changes: :meth:`added` and :meth:`without` return another one, equal to one built of the same texts at
    once. The scores of terms in passages are computed by ``bm25s``, when they are first needed.

    :param rows: ``[n]`` row number of every text, ascending.
    :param tokens: the terms of all texts, one after the other, as numbers of ``vocabulary``.
    :param offsets: ``[n + 1]`` where each text begins in ``tokens``, and where the last one ends.
    :param vocabulary: number of every term: 0, 1, 2, …
    :param definitions: abbreviations that the texts define.

    >>> index = LexicalIndex.build(enumerate(["IL-6 drives inflammation.", "Aspirin inhibits COX-1."]))
    >>> scores, rows = index.search_many(["What inhibits COX-1?"], k=5)[0]
    >>> rows.tolist()
    [1]
    """

    def __init__(
        self,
        rows: RowArray,
        tokens: TokenArray,
        offsets: RowArray,
        vocabulary: dict[str, int],
        definitions: Definitions,
    ) -> None:
        self.rows = rows
        self.definitions = definitions
        self._tokens = tokens
        self._offsets = offsets
        self._vocabulary = vocabulary
        self._bm25: Any = None
        self._preparing = threading.Lock()

    @classmethod
    def build(cls, texts: Iterable[tuple[int, str]]) -> LexicalIndex:
        """Index texts by ascending row number; they are read once."""
        no_rows, no_tokens, start = np.empty(0, np.int64), np.empty(0, np.int32), np.zeros(1, np.int64)
        return cls(no_rows, no_tokens, start, {}, Definitions.none()).added(texts)

    def __len__(self) -> int:
        return len(self.rows)

    def added(self, texts: Iterable[tuple[int, str]]) -> LexicalIndex:
        """Return an index that holds these texts too; their row numbers ascend, above those that are here."""
        vocabulary, stem = dict(self._vocabulary), analysis.new_stemmer()

        @cache
        def number_of(word: str) -> int:
            """Return the number of a word's term, a new one if need be; -1 for a stop word."""
            return -1 if analysis.is_stop_word(word) else vocabulary.setdefault(stem(word), len(vocabulary))

        rows: list[int] = []
        parts: list[TokenArray] = [self._tokens]
        defined: list[tuple[int, tuple[str, str]]] = []
        for row, text in texts:
            found = map(number_of, analysis.words(text))
            parts.append(np.array([number for number in found if number >= 0], dtype=np.int32))
            rows.append(row)
            defined += ((row, pair) for pair in definitions_in(text))
        lengths = np.fromiter(map(len, parts[1:]), dtype=np.int64, count=len(rows))
        return LexicalIndex(
            np.concatenate([self.rows, np.array(rows, dtype=np.int64)]),
            np.concatenate(parts),
            np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(lengths)]),
            vocabulary,
            self.definitions.added(defined),
        )

    def without(self, rows: RowArray) -> LexicalIndex:
        """Return an index without the texts of these rows; each must be here."""
        keep = ~np.isin(self.rows, rows)
        lengths = np.diff(self._offsets)
        return LexicalIndex(
            self.rows[keep],
            self._tokens[np.repeat(keep, lengths)],
            np.concatenate([[0], np.cumsum(lengths[keep])]),
            self._vocabulary,
            self.definitions.without(rows),
        )

    def match(self, query: str, other_forms: str = "") -> Matches:
        """Return the score of every passage for a query, and for other forms of its abbreviations."""
        scores = self._scores(query)
        if other_forms:
            scores = scores + OTHER_FORMS_WEIGHT * self._scores(other_forms)
        return Matches(self.rows, scores)

    def _scores(self, query: str) -> FloatArray:
        known = [self._vocabulary[term] for term in analysis.terms(query) if term in self._vocabulary]
        return self.prepare().get_scores_from_ids(known) if known else np.zeros(len(self.rows), dtype=np.float32)

    def search_many(
        self, queries: Sequence[str], k: int, allowed: RowArray | None = None, other_forms: Sequence[str] | None = None
    ) -> list[Found]:
        """Return the best passages for each query, as :meth:`match` and :meth:`Matches.best` find them."""
        forms = [""] * len(queries) if other_forms is None else other_forms
        return [self.match(query, own).best(k, allowed) for query, own in zip(queries, forms, strict=True)]

    def prepare(self) -> Any:
        """Return the scores, computed now unless they were before."""
        with self._preparing:
            if self._bm25 is None:
                self._bm25 = _scored(self._tokens, self._offsets, len(self._vocabulary))
            return self._bm25

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return everything, the computed scores included; :meth:`from_arrays` takes it back."""
        return {
            "rows": self.rows,
            "tokens": self._tokens,
            "offsets": self._offsets,
            "terms": np.frombuffer("\n".join(self._vocabulary).encode(), dtype=np.uint8),
            **self.definitions.to_arrays(),
            **{name: self.prepare().scores[name] for name in _SCORES},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> LexicalIndex:
        """Return the index that :meth:`to_arrays` was called on; nothing is computed.

        :raises ValueError: if the terms are no UTF-8, or one comes twice.
        """
        terms = terms_of(arrays)
        vocabulary = {term: number for number, term in enumerate(terms)}
        if len(vocabulary) != len(terms):
            raise ValueError("a term comes twice.")
        definitions = Definitions.from_arrays(arrays)
        index = cls(arrays["rows"], arrays["tokens"], arrays["offsets"], vocabulary, definitions)
        index._bm25 = _scorer({name: arrays[name] for name in _SCORES}, len(index))
        return index


def terms_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[str]:
    """Return the terms of an index of which these are the arrays, in the order of their numbers."""
    joined = arrays["terms"].tobytes().decode()
    return joined.split("\n") if joined else []


def _scored(tokens: TokenArray, offsets: RowArray, n_terms: int) -> Any:
    """Compute the score of every term in every text."""
    if not len(tokens):  # bm25s divides by the mean length
        nothing = np.empty(0, np.float32), np.empty(0, np.int32), np.zeros(n_terms + 1, np.int64)
        return _scorer(dict(zip(_SCORES, nothing, strict=True)), len(offsets) - 1)
    flat = tokens.tolist()
    texts = [flat[start:end] for start, end in pairwise(offsets.tolist())]
    scores = _scorer({}, 0).build_index_from_ids(list(range(n_terms)), texts, show_progress=False)
    return _scorer(scores, len(texts))


def _scorer(scores: dict[str, Any], n_texts: int) -> Any:
    """Return a ``bm25s.BM25`` that has these scores, as its own ``load`` makes one.

    Its methods ``index`` and ``retrieve`` are left aside: they log below the level that an application asked for,
    fail or warn on texts and queries without words, and leave the order of ties open.
    """
    with without_bars("DISABLE_TQDM"):
        from bm25s import BM25

    bm25 = BM25(k1=K1, b=B, method="lucene")
    bm25.scores = {**scores, "num_docs": n_texts}
    bm25.nonoccurrence_array = None
    return bm25
