"""Questions with the passages that answer them: what training pairs are made from.

``question_files.py`` says which files. An answer or context, which may be long, is a passage; ids may repeat and are
not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.bioasq import question_snippets, short_hash
from biorerank_plugins.readers.detect import need_readable
from biorerank_plugins.readers.question_files import question_records
from biorerank_plugins.readers.records import as_text, as_title, make_passage
from biorerank_plugins.readers.report import Malformed, Reading, ReadReport
from biorerank_plugins.readers.source import PathOrStream, source_of


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question and its evidence."""

    id: str  # "" if it has none
    text: str
    passages: tuple[Passage, ...]  # what answers it; empty for the questions of a test set
    documents: frozenset[str]  # that are relevant as a whole, such as PubMed addresses
    negatives: tuple[Passage, ...] = ()  # what the file says does not answer it


def read_answered(
    path: PathOrStream, *, bad_lines: Literal["error", "skip"] = "error", report: ReadReport | None = None
) -> Iterator[AnsweredQuestion]:
    """Read questions with their evidence, one at a time; malformed ones as ``read_passages`` treats them."""
    source = source_of(path)
    report = ReadReport() if report is None else report
    skips = bad_lines == "skip"
    with source.open() as file:
        need_readable(file, "questions")
        for number, record in question_records(file, Reading(report, skips)):
            # A reading of its own: a snippet is evidence of this question even if another one had it before.
            reading = Reading(report, skips)
            with reading.noting(file.name, number):
                question = _question(record, reading, file.name, number)
                report.read += 1
                yield question


def _question(record: dict[str, Any], reading: Reading, path: str, number: int) -> AnsweredQuestion:
    if "passages" in record:
        passages = [_passage(one) for one in record["passages"]]
    else:
        passages = list(question_snippets(record, reading, path, number))
    documents = _documents(record.get("documents")) | {
        str(one["document"]) for one in record.get("passages", ()) if one.get("document")
    }
    negatives = tuple(_passage({"text": text}) for text in record.get("negatives", ()))
    return AnsweredQuestion(record["id"], record["question"], tuple(passages), documents, negatives)


def _passage(record: dict[str, Any]) -> Passage:
    text = as_text(record["text"], "answer").strip()
    id_ = f"a{short_hash(text.lower())}"
    about = {name: value for name, value in record.items() if name == "document" and value is not None}
    return make_passage(id_, text, as_title(record.get("title")), about)


def _documents(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(document, str) for document in value):
        raise Malformed("'documents' must be a list of strings.")
    return frozenset(value)
