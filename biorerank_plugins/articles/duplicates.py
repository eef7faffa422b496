"""When two passages are the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from biorerank_plugins.articles.metadata import DEFAULT_KEYS, MetadataKeys
from biorerank_plugins.passages import Candidate, Passage

DEDUPLICATION_KEYS = ("id", "pmid", "doi", "text")
Deduplicate: TypeAlias = str | Sequence[str] | None

# Signs stay: CD4+ and CD4- cells, p < 0.05 and p > 0.05 are not the same.
_SENTENCE_MARKS = re.compile(r"""[\s.,;:!?'"()\[\]]+""")


def deduplicate(
    candidates: Iterable[Candidate], keys: Deduplicate, metadata_keys: MetadataKeys = DEFAULT_KEYS
) -> tuple[list[int], list[int]]:
    """Return the positions of passages that stay, the first of equal ones, and of those that repeat one.

    :param keys: any of ``"id"``, ``"pmid"``, ``"doi"``, ``"text"`` (equal up to case, white space and punctuation of
        sentences); two passages are the same if *one* of the keys is equal. PMIDs and DOIs are compared in one form,
        whether they are written as numbers, with a prefix or as addresses. ``None`` keeps all.
    """
    wanted = check_keys(keys)
    seen: set[tuple[str, str]] = set()
    kept: list[int] = []
    dropped: list[int] = []
    for position, candidate in enumerate(candidates):
        own = {(key, value) for key in wanted if (value := _key_value(candidate.passage, key, metadata_keys))}
        if own & seen:
            dropped.append(position)
        else:
            kept.append(position)
            seen |= own
    return kept, dropped


def check_keys(keys: Deduplicate) -> tuple[str, ...]:
    """Return de-duplication keys as a tuple; ``None`` gives none, an unknown one is refused."""
    if keys is not None and not isinstance(keys, Iterable):
        raise ValueError(f"deduplicate={keys!r}: expected None or keys. Choose from {', '.join(DEDUPLICATION_KEYS)}.")
    wanted = () if keys is None else (keys,) if isinstance(keys, str) else tuple(keys)
    unknown = [key for key in wanted if key not in DEDUPLICATION_KEYS]
    if unknown:
        raise ValueError(
            f"deduplicate={keys!r}: unknown key {unknown[0]!r}. Choose from {', '.join(DEDUPLICATION_KEYS)}."
        )
    return wanted


def _key_value(passage: Passage, key: str, keys: MetadataKeys) -> str:
    if key == "id":
        return passage.id
    if key == "pmid":
        return keys.pmid_of(passage)
    if key == "doi":
        return keys.doi_of(passage)
    folded = unicodedata.normalize("NFKC", passage.text).casefold()
    return _SENTENCE_MARKS.sub(" ", folded).strip() or folded.strip()
