"""The measures of BioASQ Task B, phase A, for documents and for snippets.

As the organisers define them ("Evaluation Measures for Task B", Malakasiotis et al., sections 2.1 and 2.2; program:
https://github.com/BioASQ/Evaluation-Measures, edition 8 and later). At most ten items a question are looked at.

* Documents: precision, recall and F1 of the list; average precision is the sum of the precision at each relevant item
  over ``min(relevant, 10)`` (editions 3 to 7 divided by 10). GMAP is the geometric mean of the average precisions plus
  ``1e-5``.
* Snippets: a snippet is the set of its characters, each an (article, offset) pair. With S those returned and G the gold
  ones, precision is ``|S ∩ G| / |S|`` and recall ``|S ∩ G| / |G|``; F1 is the official measure since edition 9. For
  average precision a snippet is relevant if it shares a character with a gold one, and the precision at its rank is
  that of the characters up to there, so that several snippets inside one gold snippet can bring it above 1.

Snippets that overlap are merged first, as the organisers' program does; that takes a snippet for relevant if only its
article holds a gold one, against the definition, which is followed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

TOP = 10
"""Items of each kind that a system may return for a question."""

MEASURES = ("P", "R", "F1", "AP")
"""What is measured of one question, documents and snippets alike."""

_EPSILON = 1e-5
_NOT_ALNUM = re.compile(r"[\W_]+")

_T = TypeVar("_T")
Overlap = tuple[int, int]  # characters of a returned snippet, and how many of them are gold


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A piece of an article."""

    document: str
    section: str  # that the offsets count in
    begin: int
    end: int  # the last character, which belongs to the piece, as the organisers' program counts

    @property
    def size(self) -> int:
        """Number of characters."""
        return self.end - self.begin + 1

    def shared(self, other: Span) -> int:
        """Return how many characters both have."""
        if (self.document, self.section) != (other.document, other.section):
            return 0
        return max(0, min(self.end, other.end) - max(self.begin, other.begin) + 1)


def document_measures(found: Sequence[str], gold: Collection[str]) -> dict[str, float]:
    """Return precision, recall, F1 and average precision of one question's documents.

    :param found: documents, best first; repetitions are left out, then all but the first ten.
    :param gold: the relevant documents; without any, all is 0.

    >>> document_measures(["a", "x", "b"], {"a", "b", "c"})["AP"]  # (1/1 + 2/3) / 3
    0.5555555555555555
    """
    relevant = set(gold)
    listed = list(dict.fromkeys(found))[:TOP]
    hits = [document in relevant for document in listed]
    precisions = [sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1)]
    average = sum(p for p, hit in zip(precisions, hits, strict=True) if hit) / max(1, min(TOP, len(relevant)))
    return _measures(sum(hits), len(listed), len(relevant), average)


def snippet_measures(overlaps: Sequence[Overlap], gold_size: int, n_gold: int) -> dict[str, float]:
    """Return precision, recall, F1 and average precision of one question's snippets, returned best first.

    >>> snippet_measures([(10, 5), (10, 0)], gold_size=20, n_gold=2)
    {'P': 0.25, 'R': 0.25, 'F1': 0.25, 'AP': 0.25}
    """
    size = shared = 0
    precisions = 0.0
    for own_size, own_shared in overlaps:
        size += own_size
        shared += own_shared
        precisions += shared / size if own_shared else 0.0
    return _measures(shared, size, gold_size, precisions / min(TOP, n_gold))


def _measures(shared: int, found: int, gold: int, average: float) -> dict[str, float]:
    precision = shared / found if found else 0.0
    recall = shared / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    return {"P": precision, "R": recall, "F1": f1, "AP": average}


def geometric_mean(values: Iterable[float]) -> float:
    """Return BioASQ's geometric mean: of each value plus ``1e-5``, so that one zero does not decide all.

    >>> round(geometric_mean([1.0, 0.0]), 6)
    0.003162
    """
    logarithms = [math.log(value + _EPSILON) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that share characters; the merged one stands where the first of them stood.

    >>> merge_spans([Span("d", "abstract", 5, 9), Span("e", "abstract", 0, 3), Span("d", "abstract", 8, 20)])[0].end
    20
    """
    merged: list[Span] = []
    for span in spans:
        # What the new span joins may join among itself through it.
        joined = [other for other in merged if span.shared(other)]
        parts = [span, *joined]
        whole = Span(span.document, span.section, min(p.begin for p in parts), max(p.end for p in parts))
        merged = _put(merged, whole, joined)
    return merged


def _put(kept: list[_T], item: _T, instead_of: list[_T]) -> list[_T]:
    """Put an item where the first of those stood whose place it takes, else at the end."""
    place = kept.index(instead_of[0]) if instead_of else len(kept)
    others = [other for other in kept if other not in instead_of]
    return [*others[:place], item, *others[place:]]


def span_overlaps(found: Iterable[Span], gold: Sequence[Span]) -> list[Overlap]:
    """Compare returned spans, best first, with gold ones, both merged before."""
    return [(span.size, sum(span.shared(other) for other in gold)) for span in found]


def text_key(text: str) -> str:
    """Return the letters and digits of a text in lower case: what it is compared by where there are no offsets.

    >>> text_key("TNF-α is raised.")
    'tnfαisraised'
    """
    return _NOT_ALNUM.sub("", text.lower()) or text


def merge_texts(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out (document, :func:`text_key`) pairs that another one contains; of equal ones the first stays."""
    kept: list[tuple[str, str]] = []
    for item in texts:
        if not any(_contains(other, item) for other in kept):
            kept = _put(kept, item, [other for other in kept if _contains(item, other)])
    return kept


def text_overlaps(found: Iterable[tuple[str, str]], gold: Sequence[tuple[str, str]]) -> list[Overlap]:
    """Compare returned with gold snippets by their texts, where there are no offsets.

    Two snippets share the characters of the shorter one if the longer one contains it and their documents are not
    known to differ, or if they are equal (a collection keeps one passage of equal texts, whatever their documents);
    else they share nothing. Snippets that overlap only partly are thus counted as different. Both are merged before.
    """
    taken: dict[tuple[str, str], int] = {}
    overlaps = []
    for item in found:
        shared = 0
        for other in gold:
            if _contains(item, other) or _contains(other, item):
                room = len(other[1]) - taken.get(other, 0)  # no gold character is counted twice
                part = min(len(item[1]), len(other[1]), room)
                taken[other] = taken.get(other, 0) + part
                shared += part
        overlaps.append((len(item[1]), min(shared, len(item[1]))))
    return overlaps


def _contains(outer: tuple[str, str], inner: tuple[str, str]) -> bool:
    documents = {outer[0], inner[0]} - {""}  # the empty one is not known
    return outer[1] == inner[1] or (len(documents) < 2 and inner[1] in outer[1])
