"""PubMed XML: text, metadata, versions, deletions, and files that mean harm."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

DOCTYPE = (
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" '
    '"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">'
)
FULL = """<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="1">101</PMID>
 <Article><Journal><JournalIssue><PubDate><Year>2013</Year></PubDate></JournalIssue>
  <Title>Journal of Water</Title><ISOAbbreviation>J Water</ISOAbbreviation></Journal>
  <ArticleTitle>Role of H<sub>2</sub>O <i>in <sup>vivo</sup></i>.</ArticleTitle>
  <ELocationID EIdType="doi" ValidYN="Y">10.1/water</ELocationID><ELocationID EIdType="pii">S1</ELocationID>
  <Abstract><AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">Water &amp; life:
    p&lt;0.05<!-- a comment -->.</AbstractText>
   <AbstractText Label="UNLABELLED">No <b>label</b>.</AbstractText><AbstractText Label="EMPTY"/>
   <AbstractText>Plain.</AbstractText><CopyrightInformation>Copyright 2013.</CopyrightInformation></Abstract>
  <PublicationTypeList><PublicationType UI="D016428">Journal Article</PublicationType>
   <PublicationType UI="D016441">Retracted Publication</PublicationType></PublicationTypeList>
 </Article>
 <CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID Version="1">5</PMID></CommentsCorrections>
 </CommentsCorrectionsList></MedlineCitation>
 <PubmedData><ArticleIdList><ArticleId IdType="doi">10.1/other</ArticleId></ArticleIdList>
  <ReferenceList><Reference><ArticleIdList><ArticleId IdType="doi">10.1/cited</ArticleId></ArticleIdList></Reference>
  </ReferenceList></PubmedData></PubmedArticle>"""


def article(pmid: object, text: str = "Text.", *, version: object = 1, title: str = "Title.", more: str = "") -> str:
    abstract = f"<Abstract><AbstractText>{text}</AbstractText></Abstract>" if text else ""
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID>'
        f"<Article>{more}<ArticleTitle>{title}</ArticleTitle>{abstract}</Article></MedlineCitation></PubmedArticle>"
    )


def document(*parts: str, doctype: str = DOCTYPE) -> bytes:
    body = "\n".join(parts)
    return f'<?xml version="1.0" encoding="utf-8"?>{doctype}\n<PubmedArticleSet>\n{body}\n</PubmedArticleSet>'.encode()


def read(data: bytes, **options: object) -> list[Passage]:
    return list(read_passages(io.BytesIO(data), **options))  # type: ignore[arg-type]


def test_a_full_record() -> None:
    [passage] = read(document(FULL))
    assert passage.id == "101"
    assert passage.title == "Role of H2O in vivo."
    assert passage.text == "BACKGROUND: Water & life: p<0.05.\nNo label.\nPlain."
    assert passage.to_dict()["metadata"] == {
        "pmid": "101",
        "version": 1,
        "year": 2013,
        "journal": "Journal of Water",
        "doi": "10.1/water",
        "publication_types": ["Journal Article", "Retracted Publication"],
        "retracted": True,
        "expression_of_concern": False,
    }


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>", 1998),
        ("<MedlineDate>Spring 2000</MedlineDate>", 2000),
        ("<Year>1966</Year><Month>Jan</Month>", 1966),
        ("<MedlineDate>unknown 12345</MedlineDate>", None),
        ("", None),
    ],
)
def test_years(date: str, year: int | None) -> None:
    journal = f"<Journal><JournalIssue><PubDate>{date}</PubDate></JournalIssue></Journal>"
    [passage] = read(document(article(1, more=journal)))
    assert passage.metadata.get("year") == year
    assert passage.metadata["retracted"] is False


def test_without_abstract_the_title_is_the_text() -> None:
    [passage] = read(document(article(1, "", title="[Injuries of the cervical spine].")))
    assert (passage.text, passage.title) == ("[Injuries of the cervical spine].", None)


def test_a_retraction_notice_marks_the_article() -> None:
    notice = '<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn"/></CommentsCorrectionsList>'
    [passage] = read(document(article(1).replace("</Article>", "</Article>" + notice)))
    assert passage.metadata["retracted"] is True


def test_the_highest_version_wins_wherever_it_stands() -> None:
    parts = [article(1, "Old."), article(2, "Two."), article(1, "New.", version=10), article(1, "Middle.", version=9)]
    assert [(p.id, p.text) for p in read(document(*parts))] == [("2", "Two."), ("1", "New.")]
    same = document(article(1, "First."), article(1, "Revised."))
    assert [p.text for p in read(same)] == ["Revised."]


def test_deleted_articles_are_left_out_and_reported() -> None:
    pmids = "".join(f'<PMID Version="1">{pmid}</PMID>' for pmid in (1, 9, 3))
    deletion = f"<DeleteCitation>{pmids}</DeleteCitation>"
    report = ReadReport()
    data = document(article(1), article(2), article(3, version=2), deletion)
    assert [p.id for p in read(data, report=report)] == ["2", "3"]
    assert report.deleted == ["1", "9"]
    assert report.read == 2

    only = ReadReport()
    assert read(document(deletion), report=only) == []
    assert only.deleted == ["1", "9", "3"]


def test_a_book_chapter() -> None:
    book = (
        "<PubmedBookArticle><BookDocument><PMID>7</PMID><Book><BookTitle>Genes</BookTitle><PubDate><Year>2004</Year>"
        "</PubDate></Book><ArticleTitle>Marfan.</ArticleTitle><Abstract><AbstractText>FBN1.</AbstractText></Abstract>"
        "</BookDocument></PubmedBookArticle>"
    )
    [passage] = read(document(book))
    assert (passage.id, passage.title, passage.text) == ("7", "Marfan.", "FBN1.")
    assert passage.metadata["year"] == 2004


def test_malformed_records_are_named_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "pubmed.xml"
    bad = [article("", "x"), article("12a"), article(3, "", title=""), "<PubmedArticle/>", article(4, "a &nbsp; b")]
    path.write_bytes(document(article(1), *bad, article(5)))
    report = ReadReport()
    assert [p.id for p in read_passages(path, bad_lines="skip", report=report)] == ["1", "5"]
    assert [s.line for s in report.skipped] == [4, 5, 6, 7, 8]
    words = ["no PMID", "no PMID", "PMID 3 has neither", "no Article", "entity &nbsp;"]
    assert [word in s.reason for word, s in zip(words, report.skipped, strict=True)] == [True] * 5
    with pytest.raises(ReaderError, match="no PMID") as caught:
        list(read_passages(path))
    assert (caught.value.path, caught.value.line) == (str(path), 4)


def test_line_numbers_of_long_files() -> None:
    data = document(*["\n" * 1000 + article(number) for number in range(1, 101)], article(0, "", title=""))
    report = ReadReport()
    assert len(read(data, bad_lines="skip", report=report)) == 100
    assert [s.line for s in report.skipped] == [100_000 + 103]


def declaring(entities: str, body: str) -> bytes:
    return document(body, doctype=f"<!DOCTYPE PubmedArticleSet [{entities}]>")


BOMB = '<!ENTITY l0 "lol">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
IN_ATTRIBUTE = article(1).replace("<AbstractText>", '<AbstractText Label="&l9;">')


@pytest.mark.parametrize("bad_lines", ["error", "skip"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (declaring(BOMB, article(1, "&l9;")), "declares XML entities|amplification"),
        (declaring(BOMB, IN_ATTRIBUTE), "declares XML entities|amplification"),
        (declaring('<!ENTITY x "y">', article(1, "&x;")), "declares XML entities"),
        (declaring('<!ENTITY x SYSTEM "file:///etc/passwd">', article(1, "&x;")), "declares XML entities"),
        (declaring('<!ENTITY % x SYSTEM "http://localhost:1/x"> %x;', article(1)), "declares XML entities"),
        (b"<html><body>Not found</body></html>", "got <html>"),
        (document(article(1))[:-40], "Not well-formed"),
        (document(article(1), "<PubmedArticle><oops></PubmedArticle>"), "Not well-formed"),
        (document(article(1), "<a>" * 5000), "Not well-formed"),
        (document(article(1, "x" * (11 << 20))), "Not well-formed"),
        (b"<?xml version='1.0'?><!-- " + b"x" * 100_000 + b" --><PubmedArticleSet/>", "in the first 64 KiB"),
    ],
    ids=[
        "bomb",
        "bomb in attribute",
        "entity",
        "file",
        "parameter",
        "html",
        "cut",
        "tags",
        "deep",
        "huge text",
        "comment",
    ],
)
def test_files_that_are_broken_or_mean_harm(data: bytes, message: str, bad_lines: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read(data, format="pubmed", bad_lines=bad_lines)


def test_a_broken_file_gives_no_passages_before_the_error() -> None:
    passages = read_passages(io.BytesIO(document(*map(article, range(1, 2000)))[:-20]))
    with pytest.raises(ReaderError, match="Not well-formed"):
        next(passages)


def test_by_path_by_stream_by_pipe_and_zipped(tmp_path: Path) -> None:
    data = document(article(1, "Old."), article(1, "New.", version=2))
    (tmp_path / "a.xml").write_bytes(data)
    (tmp_path / "b.xml.gz").write_bytes(gzip.compress(data))
    assert [p.text for p in read_passages(tmp_path)] == ["New.", "New."]
    assert [p.text for p in read(gzip.compress(data))] == ["New."]
    assert [p.text for p in read(data.decode().replace("utf-8", "utf-16").encode("utf-16"))] == ["New."]
    receive, send = os.pipe()
    with os.fdopen(receive, "rb") as stream, os.fdopen(send, "wb") as sink:
        sink.write(data)
        sink.close()
        assert [p.text for p in read_passages(stream)] == ["New."]


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    """Most of it would be the parser's own memory, so a process of its own is weighed."""
    path = tmp_path / "pubmed.xml.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"<PubmedArticleSet>")
        for number in range(1, 5001):
            file.write(article(number, "word " * 2000).encode())
        file.write(b"</PubmedArticleSet>")
    program = """
import resource, sys
from biorerank_plugins.readers import pubmed, read_passages
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
print(sum(1 for _ in read_passages(sys.argv[1])), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    n_passages, kib = map(int, done.stdout.split())
    assert n_passages == 5000
    assert kib < 10_000  # the file has 50 MB
