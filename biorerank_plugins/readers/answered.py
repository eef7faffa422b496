"""Questions with the passages that answer them: what training pairs are made from.

Two kinds of record, told apart by their keys, as JSON Lines or (BioASQ) as one JSON document:

* BioASQ Task B: ``{"id", "body" | "question", "snippets": [{"text", "document"}], "documents": […]}``
* question and answer, as MedQuAD has them: ``{"id", "question", "answer", "document"?}``. Ids may repeat and are not
  needed; the answer, which may be long, is the passage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.bioasq import parse_questions, question_snippets
from biorerank_plugins.readers.detect import check_readable
from biorerank_plugins.readers.records import as_id, as_text, listed, make_passage
from biorerank_plugins.readers.report import Malformed, Reading, ReadReport
from biorerank_plugins.readers.source import PathOrStream, source_of

__all__ = ["AnsweredQuestion", "read_answered"]

_QUESTION_KEYS = ("question", "body")


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question and its evidence.

    :param id: its id, ``""`` if it has none.
    :param text: the question.
    :param passages: what answers it; empty for the questions of a test set.
    :param documents: documents that are relevant as a whole, such as PubMed addresses.
    """

    id: str
    text: str
    passages: tuple[Passage, ...]
    documents: frozenset[str]


def read_answered(
    path: PathOrStream, *, bad_lines: Literal["error", "skip"] = "error", report: ReadReport | None = None
) -> Iterator[AnsweredQuestion]:
    """Read questions with their evidence, one at a time.

    :param path: a file or a binary stream, gzipped or not.
    :param bad_lines: ``error`` stops at the first malformed record, ``skip`` notes it in the report and goes on.
    :param report: is filled while the questions are read.
    :raises ReaderError: names file and line.

    >>> import io
    >>> line = b'{"id": "1", "question": "What is FGF23?", "answer": "A hormone made by osteocytes."}'
    >>> [question.passages[0].text for question in read_answered(io.BytesIO(line))]
    ['A hormone made by osteocytes.']
    """
    source = source_of(path)
    report = ReadReport() if report is None else report
    skip = bad_lines == "skip"
    with source.open() as file:
        try:
            check_readable(file.head, "jsonl")
        except Malformed as problem:
            raise ReaderError(str(problem), file.name) from None

        def parse(number: int, record: dict[str, Any]) -> AnsweredQuestion:
            # A reading of its own: a snippet is evidence of this question even if another one had it before.
            return _question(record, Reading(report, skip=skip), file.name, number)

        for question in parse_questions(file, Reading(report, skip=skip), parse):
            report.read += 1
            yield question


def _question(record: dict[str, Any], reading: Reading, path: str, number: int) -> AnsweredQuestion:
    key = next((key for key in _QUESTION_KEYS if record.get(key) is not None), None)
    if key is None:
        raise Malformed(f"No 'question' or 'body'; the keys are: {listed(record)}.")
    text = as_text(record[key], key).strip()
    id_ = next((as_id(record[name]) for name in ("id", "_id") if record.get(name) is not None), "")
    if "answer" in record and "snippets" not in record:
        passages = [_answer(record)]
    else:
        passages = list(question_snippets(record, reading, path, number))
    return AnsweredQuestion(id_, text, tuple(passages), _documents(record.get("documents")))


def _answer(record: dict[str, Any]) -> Passage:
    text = as_text(record["answer"], "answer").strip()
    id_ = hashlib.sha1(text.lower().encode(), usedforsecurity=False).hexdigest()[:12]
    document = record.get("document")
    return make_passage(f"a{id_}", text, None, {} if document is None else {"document": document})


def _documents(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(document, str) for document in value):
        raise Malformed("'documents' must be a list of strings.")
    return frozenset(value)
