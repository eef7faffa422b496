"""Abstracts cut into labelled sentences: where negatives of the same abstract come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.objects import read_objects
from biorerank_plugins.readers.records import as_id, as_text, check_object, listed
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import source_of
from biorerank_plugins.training.negatives import Abstract

__all__ = ["read_abstracts"]


def read_abstracts(path: str | Path, names: Mapping[str, str]) -> list[Abstract]:
    """Read ``{"qid", "doc", "sentences": [{"text", "label"}]}``, one abstract of one question a line.

    Abstracts of questions that are not asked for are left out.

    :param path: the file, gzipped or not.
    :param names: id of a question in the file -> id of the question that is meant.
    :raises ReaderError: names file and line of what is no such record; also if no abstract is of a known question.
    """
    found = read_objects(path, _abstract)
    known = [
        Abstract(names[abstract.question_id], abstract.sentences, abstract.labels)
        for abstract in found
        if abstract.question_id in names
    ]
    if found and not known:
        raise ReaderError(f"None of the {len(found)} abstracts is of one of the questions.", source_of(path).name)
    return known


def _abstract(record: dict[str, Any]) -> Abstract:
    sentences = record.get("sentences")
    if "qid" not in record or not isinstance(sentences, list):
        raise Malformed(f"Expected 'qid' and a list 'sentences'; the keys are: {listed(record)}.")
    parsed = [_sentence(check_object(sentence), number) for number, sentence in enumerate(sentences, start=1)]
    return Abstract(as_id(record["qid"], "qid"), tuple(text for text, _ in parsed), tuple(label for _, label in parsed))


def _sentence(record: dict[str, Any], number: int) -> tuple[str, int]:
    label = record.get("label")
    if isinstance(label, bool) or label not in (0, 1):
        raise Malformed(f"Sentence {number}: the label must be 0 or 1, got {label!r:.40}.")
    return as_text(record.get("text")).strip(), int(label)
