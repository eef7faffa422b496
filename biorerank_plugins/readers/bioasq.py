"""BioASQ Task B questions: the passages are their distinct snippets.

Read as users download them (``{"questions": [{"id", "body", "snippets": […]}]}``), or as JSON Lines with one question
(``question`` or ``body``) a line. A snippet has no name of its own: its id is ``p`` and 12 hexadecimal digits of the
SHA-1 of its letters and digits, so the same sentence has the same id in every file. Snippets that differ only in case,
white space and punctuation are one passage; the first one met is given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.json_stream import array_items
from biorerank_plugins.readers.jsonl import is_bioasq_document, parse_items, parse_records
from biorerank_plugins.readers.records import as_text, check_object, listed, make_passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_T = TypeVar("_T")

_NOT_ASCII_ALNUM = re.compile(r"[^a-z0-9]+")
_NOT_ALNUM = re.compile(r"[\W_]+")
# Kept of a snippet beside its PubMed address; offsets mean nothing without the abstract.
_KEPT = {"document": "document", "beginSection": "section"}


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give each distinct snippet, in the order of the questions."""
    found = parse_questions(file, reading, lambda n, asked: list(question_snippets(asked, reading, file.name, n)))
    return chain.from_iterable(found)


def parse_questions(file: OpenFile, reading: Reading, parse: Callable[[int, dict[str, Any]], _T]) -> Iterator[_T]:
    """Give what ``parse(line number, question)`` makes of each question."""
    if is_bioasq_document(file.begin):
        return parse_items(array_items(file, "questions"), file, reading, parse)
    return parse_records(file, reading, parse)


def question_snippets(question: dict[str, Any], reading: Reading, path: str, number: int) -> Iterator[Passage]:
    """Give the snippets of one question that this reading has not given before."""
    snippets = question.get("snippets")
    if snippets is None:
        # Questions of test sets come without. A line that is no question at all is an error.
        if not {"question", "body"} & question.keys():
            raise Malformed(f"No 'snippets' and no 'question' or 'body'; the keys are: {listed(question)}.")
        return
    if not isinstance(snippets, list):
        raise Malformed("'snippets' must be a list.")
    for position, snippet in enumerate(snippets, start=1):
        with reading.noting(path, number, f"Snippet {position}: "):
            if (passage := _passage(snippet, reading)) is not None:
                yield passage


def _passage(snippet: Any, reading: Reading) -> Passage | None:
    """Return the snippet's passage, ``None`` if it was given before."""
    snippet = check_object(snippet)
    text = as_text(snippet.get("text"))
    strict = short_hash(_NOT_ALNUM.sub("", text.lower()) or text)
    id_ = short_hash(_NOT_ASCII_ALNUM.sub("", text.lower()) or text)
    if reading.snippets.get(id_, strict) != strict:
        id_ = strict  # another text with the same ASCII letters (Greek letters differ): all its letters name it
    if id_ in reading.snippets:
        reading.repeated += 1
        return None
    reading.snippets[id_] = strict
    metadata = {name: snippet[key] for key, name in _KEPT.items() if snippet.get(key) is not None}
    return make_passage(f"p{id_}", text, None, metadata)


def short_hash(text: str) -> str:
    """Return the 12 hexadecimal digits that name a text."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]
