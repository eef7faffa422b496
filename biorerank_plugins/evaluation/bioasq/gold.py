"""Gold answers of BioASQ Task B files, and judgements of a collection's passages from them.

Read as users download them (``{"questions": […]}``, with offsets) or as JSON Lines with one question a line (texts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biorerank_plugins.articles.identifiers import as_pmid
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation.bioasq.measures import Span, text_key
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import Query, read_queries
from biorerank_plugins.readers.bioasq import parse_questions, read
from biorerank_plugins.readers.records import as_id
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import source_of

_OFFSETS = ("offsetInBeginSection", "offsetInEndSection")
_ABSTRACT = {"0": "abstract", "sections.0": "abstract"}  # how early editions name it


@dataclass(frozen=True, slots=True)
class GoldSnippet:
    """A snippet that answers a question."""

    text: str
    document: str  # a PMID where there is one, "" if unknown
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class BioASQGold:
    """The gold answers of a file.

    :param documents: for each question its relevant articles.
    :param snippets: for each question its snippets, in the order of the file.
    """

    documents: Mapping[str, Sequence[str]]
    snippets: Mapping[str, Sequence[GoldSnippet]]
    _spans: dict[str, list[Span]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for snippet in (one for listed in self.snippets.values() for one in listed):
            if snippet.span is not None:
                self._spans.setdefault(text_key(snippet.text), []).append(snippet.span)

    @property
    def has_offsets(self) -> bool:
        """Whether every snippet has its place, so that characters can be compared as BioASQ does."""
        return all(snippet.span is not None for listed in self.snippets.values() for snippet in listed)

    @property
    def method(self) -> str:
        """How snippets are compared, in words."""
        if self.has_offsets:
            return "BioASQ snippets are compared by (article, offset) characters, as BioASQ defines it."
        return (
            "The gold snippets have no offsets: BioASQ snippet measures compare texts within an article instead, and "
            "count a partial overlap as none unless one text contains the other."
        )

    def spans_of(self, passage: Passage) -> list[Span]:
        """Return where a passage stands: as the snippets of the same text do; empty if none has its text."""
        return self._spans.get(text_key(passage.text), [])


def read_bioasq(*paths: Path) -> tuple[list[Query], BioASQGold, list[Passage]]:
    """Read questions, gold answers, and the distinct gold snippets as passages.

    :param paths: BioASQ Task B files, such as the batches of a year; a question that several hold is one.
    :raises ReaderError: if one cannot be read, no question has a gold snippet, or two files answer a question
        differently.

    >>> queries, gold, passages = read_bioasq(Path("BioASQ-training13b.json"))  # doctest: +SKIP
    """
    queries: dict[str, Query] = {}
    for query in (one for path in paths for one in read_queries(path)):
        queries.setdefault(query.id, query)
    passages: list[Passage] = []
    reading = Reading()  # one for all files, which leaves out the snippets that come again
    for path in paths:
        with source_of(path).open() as file:
            passages.extend(read(file, reading))
    return list(queries.values()), read_gold(*paths), passages


def read_gold(*paths: Path) -> BioASQGold:
    """Read the gold answers alone; see :func:`read_bioasq`."""
    gold = read_answers(paths, documents_of_snippets=True)
    names = ", ".join(map(str, paths))
    if not any(gold.snippets.values()):
        raise ReaderError("No question has gold snippets, so there is nothing to measure against.", names)
    return gold


def read_answers(paths: Sequence[Path], *, documents_of_snippets: bool) -> BioASQGold:
    """Read documents and snippets of BioASQ files, gold or handed in; a question that several files hold is one.

    :param documents_of_snippets: whether the articles of its snippets are the documents of a question that lists none.
    :raises ReaderError: if a file cannot be read, or has other answers to a question than one before it.
    """
    documents: dict[str, list[str]] = {}
    snippets: dict[str, list[GoldSnippet]] = {}
    first: dict[str, Path] = {}
    for path in paths:
        found = _answers(path, documents_of_snippets)
        for name, ids in found.documents.items():
            if first.setdefault(name, path) is path:
                documents[name], snippets[name] = list(ids), list(found.snippets[name])
            elif set(ids) != set(documents[name]) or set(found.snippets[name]) != set(snippets[name]):
                raise ReaderError(
                    f"The documents or snippets of question {name} differ from those in {first[name]}.", str(path)
                )
    return BioASQGold(documents, snippets)


def _answers(path: Path, documents_of_snippets: bool) -> BioASQGold:
    documents: dict[str, list[str]] = {}
    snippets: dict[str, list[GoldSnippet]] = {}

    def add(_: int, question: dict[str, Any]) -> None:
        name = as_id(question["_id"] if "_id" in question else question.get("id"))
        given = [_document_key(document) for document in _listed(question, "documents")]
        gold = [_snippet(snippet) for snippet in _listed(question, "snippets")]
        # Some files list snippets only; their articles are what BioASQ's own list of documents is made of.
        articles = given or ([snippet.document for snippet in gold] if documents_of_snippets else [])
        documents.setdefault(name, []).extend(document for document in articles if document)
        snippets.setdefault(name, []).extend(gold)

    with source_of(path).open() as file:
        # Not the reader for passages, which leaves out what they have no use for: offsets and repeated snippets.
        for _ in parse_questions(file, Reading(), add):
            pass
    return BioASQGold({name: list(dict.fromkeys(ids)) for name, ids in documents.items()}, snippets)


def _listed(question: dict[str, Any], key: str) -> list[Any]:
    value = question.get(key)
    if value is not None and not isinstance(value, list):
        raise Malformed(f"{key!r} must be a list.")
    return value or []


def _snippet(value: Any) -> GoldSnippet:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise Malformed("A snippet must be an object with a 'text'.")
    document = _document_key(value.get("document"))
    begin, end = (_place(value.get(key)) for key in _OFFSETS)
    span = None
    if document and begin is not None and end is not None and begin <= end:
        sections = [str(value.get(key) or "") for key in ("beginSection", "endSection")]
        span = Span(document, "–".join(_ABSTRACT.get(section, section) for section in sections), begin, end)
    return GoldSnippet(value["text"], document, span)


def _place(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _document_key(document: Any) -> str:
    """Return the PMID, in whatever way it is written, else the last part of an address; ``""`` for none."""
    if not isinstance(document, (str, int, float)) or isinstance(document, bool):
        return ""
    return as_pmid(document) or str(document).rstrip("/").rpartition("/")[2]


def document_of(passage: Passage) -> str:
    """Return the article that a passage is from, as its metadata or (as in collections of abstracts) its id say it."""
    return named_document(passage) or _document_key(passage.id)


def named_document(passage: Passage) -> str:
    """Return the article that a passage's metadata name, ``""`` if they name none."""
    return DEFAULT_KEYS.pmid_of(passage) or _document_key(passage.metadata.get("document"))


def qrels_by_text(gold: BioASQGold, passages: Iterable[Passage]) -> tuple[dict[str, dict[str, int]], int]:
    """Judge passages by the gold snippets: relevant is a passage with the text of one (letters and digits compared).

    A gold snippet that no passage has stays in the judgements under a name that no passage has, so that recall is of
    all there is to find.

    :param gold: gold snippets.
    :param passages: the collection.
    :returns: judgements, and the number of gold snippets that the collection lacks.
    """
    ids: dict[str, list[str]] = {}
    for passage in passages:
        ids.setdefault(text_key(passage.text), []).append(passage.id)
    keys = {name: [text_key(snippet.text) for snippet in snippets] for name, snippets in gold.snippets.items()}
    return _judged(keys, ids)


def qrels_by_document(gold: BioASQGold, passages: Iterable[Passage]) -> tuple[dict[str, dict[str, int]], int]:
    """Judge passages by the gold articles: relevant is a passage of one, by the PMID in its metadata or its id.

    For collections of abstracts or full texts, where no passage has just the text of a snippet.

    :param gold: gold articles.
    :param passages: the collection.
    :returns: judgements (none at all if the collection has none of the articles), and the number of gold articles that
        it lacks; these stay in the judgements under names that no passage has.
    """
    ids: dict[str, list[str]] = {}
    wanted = {document for documents in gold.documents.values() for document in documents}
    for passage in passages:
        if (document := document_of(passage)) in wanted:
            ids.setdefault(document, []).append(passage.id)
    if not ids:
        return {}, len(wanted)
    return _judged(gold.documents, ids)


def _judged(
    wanted: Mapping[str, Iterable[str]], ids: Mapping[str, Sequence[str]]
) -> tuple[dict[str, dict[str, int]], int]:
    """Judge relevant what is wanted for each question, by the ids that passages have under these names."""
    qrels = {
        name: {id_: 1 for key in keys for id_ in ids.get(key, [f"missing:{key}"])} for name, keys in wanted.items()
    }
    missing = {key for keys in wanted.values() for key in keys if key not in ids}
    return {name: grades for name, grades in qrels.items() if grades}, len(missing)
