"""Fuzz targets: what reads input that somebody else made. An error that a target does not document is a crash."""

from __future__ import annotations

import io
import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import BioRerankError, ReaderError
from support.fuzz_files import index_targets, model_targets, shard_targets
from support.fuzz_hosts import host_targets
from support.fuzz_requests import request_targets
from support.spoil import Target, spoil_bytes, spoil_settings, spoil_tree

# Readers

_JSONL = b'{"_id": "1", "title": "TP53", "text": "It suppresses tumours.", "metadata": {"year": 2020}}\n' * 2
_PUBMED = (
    b'<?xml version="1.0"?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version="1">12</PMID><Article>'
    b"<Journal><Title>J</Title><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue></Journal>"
    b"<ArticleTitle>On <i>p53</i></ArticleTitle><Abstract><AbstractText Label='AIM'>Text.</AbstractText></Abstract>"
    b"<PublicationTypeList><PublicationType>Review</PublicationType></PublicationTypeList></Article></MedlineCitation>"
    b"</PubmedArticle><DeleteCitation><PMID Version='1'>9</PMID></DeleteCitation></PubmedArticleSet>"
)
_BIOASQ = (
    b'{"questions": [{"id": "q1", "body": "What is p53?", "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/1"], '
    b'"snippets": [{"text": "A protein.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/1", '
    b'"beginSection": "abstract"}]}]}'
)
_TSV = b'id\ttext\ttitle\n1\tIt suppresses tumours.\tTP53\n2\t"a ""b""\nc"\tx\n'


_QUESTIONS = (
    b"q1\tWhat is p53?\n",
    b"question,answer\nWhat is p53?,A protein.\n",
    b'{"question": "a", "answer": "b"}',
    b'{"query": "a", "pos": ["b"], "neg": ["c", "d"]}\n{"query": "e", "pos": ["f"], "neg": []}\n',
    b'{"1": {"QUESTION": "a?", "CONTEXTS": ["b", "c"], "final_decision": "yes", "LONG_ANSWER": "d"}}',
    b'{"m": {"q1": {"question": "a?", "options": {"A": "b"}, "answer": "A"}}}',
    b'{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "1", "question": "c?", "answers": []}]}]}]}',
    b"<top>\n<num> Number: 1\n<title> p53\n<desc> Description:\nWhat?\n</top>\n",
    b'<topics><topic number="1"><query>p53</query><question>what?</question></topic></topics>',
)


def _small_pdf(text: bytes = b"Aspirin inhibits platelets.") -> bytes:
    content = b"BT /F1 12 Tf 50 700 Td (%s) Tj 0 -14 Td (The dose is low, and bleed-) Tj ET" % text
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>",
    )
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    return data + b"xref\n0 6\n0000000000 65535 f \n" + table + end


_FORMATS = Path(__file__).resolve().parents[1] / "fixtures" / "formats"
_FIXTURES = {
    "csv": "table.csv", "medline": "export.nbib", "ris": "export.ris", "jats": "article.nxml", "bioc": "bioc.xml",
    "europepmc": "europepmc.json",
}  # fmt: skip
_SEEDS = {
    "jsonl": (_JSONL, b'{"id": 7, "text": "a", "document": "http://www.ncbi.nlm.nih.gov/pubmed/23185200"}'),
    "tsv": (_TSV, b"1\ta\n2\tb\n"),
    "pdf": (_small_pdf(),),
    "html": (b"<html><title>T</title><body><h1>A</h1><p>A passage.</p><table><tr><td>1</table></body></html>",),
    "text": (b"A passage.\r\nAnother line.\n",),
    "bioasq": (_BIOASQ, b'{"question": "a", "snippets": [{"text": "b"}]}\n'),
    **{name: ((_FORMATS / file).read_bytes(),) for name, file in _FIXTURES.items()},
    "pubmed": (_PUBMED, b"<!DOCTYPE PubmedArticleSet SYSTEM 'http://example.org/a.dtd'>" + _PUBMED[21:]),
}


def _reading(format_: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        from biorerank_plugins.readers import read_passages

        skip = len(data) % 2 == 1
        for passage in read_passages(io.BytesIO(data), format=format_, bad_lines="skip" if skip else "error"):
            json.dumps(passage.to_dict(), allow_nan=False).encode()
            if not passage.text.strip():
                raise AssertionError("a passage without text came out")

    return read


def _other_readers(kind: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        from biorerank_plugins import readers
        from biorerank_plugins.readers.answered import read_answered

        stream = io.BytesIO(data)
        if kind == "answered":
            return list(read_answered(stream))
        return readers.read_queries(stream) if kind == "queries" else readers.read_qrels(stream)

    return read


def reader_targets() -> dict[str, Target]:
    """Return a target for every reader."""
    every = tuple(seed for seeds in _SEEDS.values() for seed in seeds)
    every += (b"@article{a, title = {On p53}, abstract = {Text.}}\n", b"PK\x05\x06" + bytes(18))
    every += tuple(path.read_bytes() for path in sorted(_FORMATS.iterdir()))
    made = {name: (_reading(name), _SEEDS[name]) for name in _SEEDS}
    made["auto"] = (_reading("auto"), every)
    made["queries"] = (_other_readers("queries"), (*every, *_QUESTIONS))
    made["answered"] = (_other_readers("answered"), (_BIOASQ, *_QUESTIONS))
    made["qrels"] = (_other_readers("qrels"), (b"query-id\tcorpus-id\tscore\nq1\tp1\t2\n", b"q1 0 p1 1\n"))
    return {name: Target(run, (ReaderError,), seeds, spoil_bytes) for name, (run, seeds) in made.items()}


# Filters

_FILTERS: tuple[Any, ...] = (
    {"year": {">=": 2015, "<": 2020}, "journal": ["Lancet", "BMJ"]},
    {"$or": [{"title": "TP53"}, {"$not": {"article.year": 3}}]},
    {"$and": [{"tags": {"contains": "a"}}, {"id": {"not in": ["1", None]}}, {"metadata.title": {"!=": "x"}}]},
)
_SQL = re.compile(
    r"(?:\b(?:id|title|text|metadata|value|item|type|json_extract|json_type|json_each|COALESCE|CASE|WHEN|IS|NULL|THEN|ELSE"
    r"|END|IN|AND|OR|NOT|EXISTS|SELECT|FROM|WHERE|AS|1|0)\b|'(?:null|text|integer|real|true|false|array|object)'|[?(),.=<>!\s])+"
)


def _filtering() -> Callable[[Any], None]:
    from biorerank_plugins import Passage
    from biorerank_plugins.first_stage.catalog import Catalog
    from biorerank_plugins.first_stage.filters import compile_filter

    catalog = Catalog.in_memory()
    catalog.insert([(0, Passage("1", "It.", "TP53", {"year": 2016, "journal": "BMJ", "tags": ["a", 1, None]}))])

    def run(given: Any) -> None:
        condition = compile_filter(given)
        if condition is None:
            return
        if not _SQL.fullmatch(condition.sql) or condition.sql.count("?") != len(condition.parameters):
            raise AssertionError(f"something of the filter is in the SQL: {condition.sql!r:.200}")
        catalog.rows(condition)
        if len(catalog) != 1:
            raise AssertionError("a filter changed the passages")

    return run


# Saved pipelines


def _haystack_targets(scratch: Path) -> dict[str, Target]:
    from haystack.core.errors import DeserializationError

    from biorerank_plugins.haystack import BioDocumentEmbedder, BioRanker, BioRetriever, BioTextEmbedder

    components = [BioRanker(), BioRetriever(str(scratch / "index")), BioTextEmbedder(), BioDocumentEmbedder()]

    def run(given: tuple[type, Any]) -> None:
        given[0].from_dict(given[1])  # type: ignore[attr-defined]

    def spoil(named: tuple[type, Any], chance: random.Random) -> tuple[type, Any]:
        return named[0], spoil_tree(named[1], chance)

    allowed = (BioRerankError, DeserializationError, TypeError, ValueError)
    return {
        f"from_dict {type(made).__name__}": Target(run, allowed, ((type(made), made.to_dict()),), spoil)
        for made in components
    }


def _other_host_targets() -> dict[str, Target]:
    """LlamaIndex's ``from_dict``, and LangChain's validation, of settings that were saved."""
    from biorerank_plugins.langchain import BioRerankCompressor
    from biorerank_plugins.langchain import BioRetriever as LangChainRetriever
    from biorerank_plugins.llama_index import BioEmbedding, BioRerankPostprocessor

    allowed = (BioRerankError, TypeError, ValueError)
    compressor = {"model": None, "top_n": 3, "evidence": 1, "deduplicate": "id", "fusion": 0.2, "template": None}
    retriever = {"index": "no-such-folder", "k": 3, "filters": {"year": 2000}, "first_stage": "dense"}
    saved: dict[str, tuple[Callable[[Any], object], Any]] = {
        "from_dict BioRerankPostprocessor": (BioRerankPostprocessor.from_dict, BioRerankPostprocessor().to_dict()),
        "from_dict BioEmbedding": (BioEmbedding.from_dict, BioEmbedding().to_dict()),
        "validate BioRerankCompressor": (BioRerankCompressor.model_validate, compressor),
        "validate BioRetriever": (LangChainRetriever.model_validate, retriever),
    }
    return {name: Target(run, allowed, (good,), spoil_settings) for name, (run, good) in saved.items()}


# Command line

_WORDS = [
    "index", "search", "rerank", "ask", "evaluate", "pairs", "calibrate", "--help", "--version", "--json", "--quiet",
    "--out",
    "--format", "jsonl", "pubmed", "--factory", "Flat", "IVF", "--candidates", "0", "-1", "5", "nan", "--min-score",
    "inf",
    "--filter", "year>=2015", "year", "=", "--top-k", "--evidence", "--abstain", "--encoder", "--model",
    "no-such-model",
    "", " ", "-", "--", "-x", "\ud800", "\0", "no-such-folder", "spoilt.jsonl", "--device", "--fusion", "--debug",
    "é", "q" * 999,
]  # fmt: skip


def _command_line_target(scratch: Path) -> Target:
    from biorerank_plugins.cli import app

    (scratch / "spoilt.jsonl").write_bytes(b'{"id": 1}\n[')

    def run(given: list[str]) -> None:
        output = io.StringIO()
        before = Path.cwd()
        os.chdir(scratch)
        try:
            # No model can be loaded by these words, so that nothing but reading of arguments and inputs happens.
            with redirect_stdout(output), redirect_stderr(output), _no_stdin():
                app(["search", *given[1:]] if given[:1] == ["demo"] else given, prog_name="biorerank")
        except SystemExit as end:
            if (
                end.code not in (0, 1, 2, None)
                or "Traceback" in output.getvalue()
                or "(unexpected; " in output.getvalue()
            ):
                raise AssertionError(f"exit {end.code}: {output.getvalue()[-300:]}") from None
        finally:
            os.chdir(before)

    def spoil(good: list[str], chance: random.Random) -> list[str]:
        words = [*good, *chance.choices(_WORDS, k=chance.randrange(6))]
        if chance.random() < 0.5:
            chance.shuffle(words)
        return [word for word in words if word != "--debug"]

    seeds = (
        ["index", "spoilt.jsonl", "--out", "made", "--encoder", "no-such-model"],
        ["search", "no-such-folder", "question"],
        ["rerank", "question", "spoilt.jsonl", "--model", "no-such-model"],
        ["pairs", "spoilt.jsonl"],
        [],
    )
    return Target(run, (), seeds, spoil)


@contextmanager
def _no_stdin() -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b""))
    try:
        yield
    finally:
        sys.stdin = before


def targets(scratch: Path, encoder: Path) -> dict[str, Target]:
    """Return every target by name.

    :param scratch: empty folder to work in.
    :param encoder: a bi-encoder's folder.
    """
    return {
        **reader_targets(),
        "filter": Target(_filtering(), (TypeError, ValueError), _FILTERS, spoil_tree),
        **index_targets(scratch),
        **shard_targets(scratch),
        **model_targets(scratch, encoder),
        **request_targets(),
        **host_targets(),
        **_haystack_targets(scratch),
        **_other_host_targets(),
        "command line": _command_line_target(scratch),
    }
