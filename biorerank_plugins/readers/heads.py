"""What the beginning of a JSON file tells."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from biorerank_plugins.readers.records import DECODER
from biorerank_plugins.readers.report import Malformed

# An unescaped key with a list: inside a JSON string its quotes would be escaped.
_BIOASQ_KEY = re.compile(rb'(?<!\\)"(questions|snippets)"\s*:\s*\[')
_QUESTIONS_KEY = re.compile(rb'(?<!\\)"questions"\s*:\s*\[')


def first_object(begin: bytes) -> dict[str, Any] | None:
    """Return the first line's object, ``None`` if that line is longer than the head or no JSON object."""
    try:
        value = DECODER.decode(begin.partition(b"\n")[0].decode("utf-8").strip())
    except (ValueError, RecursionError, Malformed, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def is_bioasq(begin: bytes) -> bool:
    """Tell questions of BioASQ from passages.

    :param begin: the beginning, without a byte order mark and blanks.
    """
    first = first_object(begin)
    if first is not None:
        return "text" not in first and ("questions" in first or "snippets" in first)
    return _BIOASQ_KEY.search(begin) is not None


def is_bioasq_document(head: bytes) -> bool:
    """Tell a whole JSON document of questions from JSON Lines with one question a line."""
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if begin.startswith(b"["):
        return True
    first = first_object(begin)
    return "questions" in first if first is not None else _QUESTIONS_KEY.search(begin) is not None
