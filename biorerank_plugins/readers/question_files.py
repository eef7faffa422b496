"""Files of questions of every kind ► records with the same keys; what queries and training pairs are made of.

A record has ``id`` (``""`` if it has none) and ``question``, and what the file has beside them:

* ``snippets`` and ``documents`` as BioASQ writes them,
* ``passages``: what answers the question, ``{"text", "title"?, "document"?}`` each,
* ``negatives``: texts that do not answer it.

Read are BioASQ Task B, JSON Lines and lists of objects (BEIR, question and answer, ``{"query", "pos", "neg"}``,
PubMedQA), CSV and TSV with a header, Parquet, PubMedQA's and MIRAGE's objects by id, SQuAD's layout, TREC topics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.delimited import csv_rows, table_rows, tsv_rows
from biorerank_plugins.readers.detect import SUFFIXES, binary_kind, suffix_of
from biorerank_plugins.readers.fields import paired, plain_name
from biorerank_plugins.readers.json_stream import array_items, object_items
from biorerank_plugins.readers.jsonl import first_object, is_bioasq_document, parse_items, parse_records
from biorerank_plugins.readers.records import as_id, as_text, check_object, listed
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.readers.topics import is_topics, topic_records

_QUESTION = ("question", "body", "query", "query_text", "anchor", "text")
_ID = ("_id", "id", "qid", "query_id", "question_id", "pubid")
_POSITIVE = ("pos", "positive", "positives", "positive_passages")
_NEGATIVE = ("neg", "negative", "negatives", "negative_passages")
_BY_ID = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{')
_SQUAD = re.compile(rb'(?<!\\)"paragraphs"\s*:\s*\[')
Records = Iterator[tuple[int, dict[str, Any]]]


def question_records(file: OpenFile, reading: Reading) -> Records:
    """Give ``(number, record)`` of each question; the number is that of the line where the file has lines."""
    if binary_kind(file.head) == "parquet":
        from biorerank_plugins.readers.parquet import parse_rows

        return parse_rows(file, reading, _normal)
    if file.begin.startswith((b"{", b"[")):
        return _json(file, reading)
    if is_topics(file.begin):
        return topic_records(file)
    if file.begin.startswith(b"<"):
        raise ReaderError("XML holds no queries, but for lists of TREC topics (<topics>).", file.name)
    bare = suffix_of(file.name) not in SUFFIXES["csv"]
    rows = (tsv_rows if bare else csv_rows)(file, reading)

    def record(number: int, columns: list[str], cells: list[str]) -> tuple[int, dict[str, Any]]:
        return _normal(number, dict(paired(columns, cells)))

    return table_rows(rows, file, reading, lambda first: _columns(first, bare), record, needs_header=True)


def _json(file: OpenFile, reading: Reading) -> Records:
    begin = file.begin
    if begin.startswith(b"["):
        return parse_records(file, reading, _normal)
    first = first_object(begin)
    if first is not None:
        is_squad = isinstance(first.get("data"), list)
        is_map = bool(first) and all(isinstance(value, dict) for value in first.values())
    else:
        is_squad = _SQUAD.search(begin) is not None
        is_map = _BY_ID.match(begin) is not None
    if is_squad:
        return _squad(file, reading)
    if is_bioasq_document(begin):
        return parse_items(array_items(file, "questions"), file, reading, _normal)
    return _map(file, reading) if is_map else parse_records(file, reading, _normal)


def _map(file: OpenFile, reading: Reading) -> Records:
    """Read objects by id (PubMedQA), or collections of such objects by name (MIRAGE)."""
    for number, name, value in object_items(file):
        with reading.noting(file.name, number):
            found = {name: check_object(value)}
            if value and all(isinstance(inner, dict) for inner in value.values()):
                found = {f"{name}/{id_}": inner for id_, inner in value.items()}
            yield from [_normal(number, {"id": id_, **record}) for id_, record in found.items()]


def _squad(file: OpenFile, reading: Reading) -> Records:
    for number, article in array_items(file, "data"):
        with reading.noting(file.name, number):
            try:
                records = list(_squad_questions(check_object(article)))
            except (KeyError, TypeError, AttributeError):
                raise Malformed("Not in SQuAD's layout: title, paragraphs, qas.") from None
            yield from ((number, record) for record in records)


def _squad_questions(article: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for paragraph in article["paragraphs"]:
        passage = {"text": paragraph["context"], "title": article.get("title")}
        if paragraph.get("document_id") is not None:
            passage["document"] = str(paragraph["document_id"])
        for asked in paragraph["qas"]:
            is_answered = bool(asked.get("answers")) and not asked.get("is_impossible")
            yield {
                "id": as_id(asked.get("id", "")) if asked.get("id") is not None else "",
                "question": as_text(asked.get("question"), "question").strip(),
                "passages": [passage] if is_answered else [],
            }


def _columns(first: list[str], bare: bool) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row has them."""
    names = [cell.strip() for cell in first]
    plain = [plain_name(name) for name in names]
    if any(name in _QUESTION for name in plain) and (not bare or len(names) == 1 or any(name in _ID for name in plain)):
        return names, True
    if not bare:
        raise Malformed(f"Expected a header that names a question ({', '.join(_QUESTION)}); got: {listed(names)}.")
    return ["id", "text"], False


def _normal(number: int, record: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Bring a record of any kind into the common form; its number goes with it."""
    known = {plain_name(name): value for name, value in record.items()}
    key = next((name for name in _QUESTION if known.get(name) is not None), None)
    if key is None:
        others = ", ".join(_QUESTION[1:])
        raise Malformed(f"No {_QUESTION[0]!r} (nor {others}); the keys are: {listed(record)}.")
    id_ = next((known[name] for name in _ID if known.get(name) not in (None, "")), None)
    made: dict[str, Any] = {"id": "" if id_ is None else as_id(id_), "question": as_text(known[key], key).strip()}
    if (found := _answers(known, made["id"])) is not None:
        made["passages"] = found
    made |= {name: known[name] for name in ("snippets", "documents") if name in known}
    if (against := _first(known, _NEGATIVE)) is not None:
        made["negatives"] = [one["text"] for one in _texts(against, "negative")]
    return number, made


def _answers(known: Mapping[str, Any], id_: str) -> list[dict[str, Any]] | None:
    """Return the passages that answer a question, ``None`` if the record has no place for any."""
    if (positive := _first(known, _POSITIVE)) is not None:
        return _texts(positive, "positive")
    if "snippets" in known:
        return None
    answers = known.get("answers")  # SQuAD's, of which a question without an answer has none
    if isinstance(answers, Mapping) and not answers.get("text"):
        return []
    contexts = known.get("contexts", known.get("context"))  # PubMedQA's: the abstract but for its conclusion
    if isinstance(contexts, Mapping):
        contexts = contexts.get("contexts")
    if contexts is not None:
        passages = _texts(contexts, "context")
        about = {"document": id_} if "long_answer" in known and id_ else {}
        if isinstance(known.get("title"), str):
            about["title"] = known["title"]
        return [{**passage, **about} for passage in passages]
    if "answer" in known and "options" not in known:
        document = known.get("document")
        return [{"text": as_text(known["answer"], "answer").strip(), **({"document": document} if document else {})}]
    return None


def _first(known: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((known[name] for name in names if known.get(name) is not None), None)


def _texts(value: Any, name: str) -> list[dict[str, Any]]:
    found = []
    for one in value if isinstance(value, list) else [value]:
        record = dict(one) if isinstance(one, Mapping) else {"text": one}
        text = as_text(record.get("text"), name).strip()
        about = {key: record[key] for key in ("title", "document") if isinstance(record.get(key), str)}
        found.append({"text": text, **about})
    return found
