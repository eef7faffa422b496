"""A passage as the columns of a table, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.passages import Passage, PassageLike, as_candidate

COLUMNS = "id, text, title, metadata"
DAMAGED = "The index is damaged: load it with verify='full', which says where, or build it again."


def passage_at(position: int, item: PassageLike) -> Passage:
    """Return what somebody wants in an index as a passage.

    :param position: its place among all that is given, for the message, and as the id of a string.
    :param item: what was given.
    :raises ValueError: if it has no text.
    """
    passage = as_candidate(item, position).passage
    if not passage.text.strip():
        raise ValueError(
            f"Passage {passage.id!r} (position {position}, counted from 0) has no text. "
            "Leave it out, or put what there is, such as the title, into its text."
        )
    return passage


def columns_of(passage: Passage) -> tuple[str, str, str | None, str]:
    """Return what is stored of a passage, in the order of :data:`COLUMNS`.

    :raises ValueError: if its metadata is not JSON, or a string of it no Unicode text.
    """
    fields = passage.to_dict()
    try:
        metadata = json.dumps(fields["metadata"], ensure_ascii=False, allow_nan=False)
        for text in (passage.id, passage.text, passage.title or "", metadata):
            text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Passage {passage.id!r} holds text that is not valid Unicode: {error}.") from error
    except (TypeError, ValueError) as error:
        key = _first_bad_key(fields["metadata"])
        raise ValueError(
            f"The metadata of passage {passage.id!r} cannot be stored as JSON{key}: {error}. "
            "Use strings, finite numbers, booleans, None, lists and mappings."
        ) from error
    return passage.id, passage.text, passage.title, metadata


def _first_bad_key(metadata: Mapping[str, Any]) -> str:
    """Return which key JSON has no form for, with a value that is not finite; empty where the whole is at fault."""
    for key, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            shown = f" is {value}" if isinstance(value, float) and not math.isfinite(value) else ""
            return f" (key {key!r}{shown})"
    return ""


def passage_of(id_: str, text: str, title: str | None, metadata: str) -> Passage:
    """Return the passage that was stored.

    :raises PassageIndexError: if it is damaged.
    """
    try:
        return Passage(id_, text, title, json.loads(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise PassageIndexError(f"Passage {id_!r} cannot be read: {error}. {DAMAGED}") from error
