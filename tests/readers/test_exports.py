"""MEDLINE, RIS and CSV, fields by any usual name, and exports recognised by what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport, read_passages

MEDLINE = """
PMID- 31415926
OWN - NLM
DP  - 2019 Jul 4
TI  - Idarucizumab in patients who bleed:
      a cohort.
LID - 10.1000/xyz.1 [doi]
AB  - Dabigatran inhibits thrombin. Idarucizumab reverses it
      within minutes.
FAU - Meyer, Anna
FAU - Silva, João
LA  - eng
PT  - Journal Article
MH  - Hemorrhage
JT  - Journal of Bleeding
PMC - PMC7777777
OT  - reversal
LR  - 20210203
ECI - J Bleed. 2020;1:1. PMID: 9

PMID- 27182818
TI  - A title without an abstract.
PT  - Retracted Publication

PMID- x
TI  - No number.
"""
RIS = """TY  - JOUR
AU  - Meyer, Anna
AU  - Silva, João
TI  - Idarucizumab in patients who bleed
JO  - J Bleed
PY  - 2019/07/04/
AB  - Dabigatran inhibits thrombin.
Idarucizumab reverses it.
DO  - 10.1000/xyz.1
UR  - https://pubmed.ncbi.nlm.nih.gov/31415926/
ER  -\x20

TY  - JOUR
T1  - Without ends and ids
N2  - Text of it.
TY  - JOUR
T1  - The last one
"""


def read(path: Path, content: str | bytes, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_passages(path, **options))


@pytest.mark.parametrize("name", ["export.nbib", "export.txt", "pubmed-set.text"])
def test_medline_by_whatever_name(tmp_path: Path, name: str):
    report = ReadReport()
    first, second = read(tmp_path / name, MEDLINE, bad_lines="skip", report=report)
    assert (first.id, first.title) == ("31415926", "Idarucizumab in patients who bleed: a cohort.")
    assert first.text == "Dabigatran inhibits thrombin. Idarucizumab reverses it within minutes."
    assert first.to_dict()["metadata"] == {
        "pmid": "31415926",
        "authors": ["Meyer, Anna", "Silva, João"],
        "journal": "Journal of Bleeding",
        "year": 2019,
        "doi": "10.1000/xyz.1",
        "pmcid": "PMC7777777",
        "publication_types": ["Journal Article"],
        "mesh": ["Hemorrhage"],
        "language": "eng",
        "keywords": ["reversal"],
        "revised": 2021,
        "retracted": False,
        "expression_of_concern": True,
    }
    assert (second.text, second.title, second.metadata["retracted"]) == ("A title without an abstract.", None, True)
    assert [(one.line, "Record 3" in one.reason) for one in report.skipped] == [(25, True)]
    with pytest.raises(ReaderError, match="Record 3: no PMID"):
        read(tmp_path / name, MEDLINE)


@pytest.mark.parametrize("name", ["export.ris", "export.txt"])
def test_ris_with_and_without_ends(tmp_path: Path, name: str):
    first, second, third = read(tmp_path / name, RIS)
    assert (first.id, first.metadata["pmid"], first.metadata["doi"]) == ("31415926", "31415926", "10.1000/xyz.1")
    assert first.text == "Dabigatran inhibits thrombin. Idarucizumab reverses it."
    assert (first.metadata["authors"], first.metadata["year"]) == (("Meyer, Anna", "Silva, João"), 2019)
    assert (second.id, second.title, second.text) == (f"{name}#2", "Without ends and ids", "Text of it.")
    assert (third.text, third.metadata["section"]) == ("The last one", "title")


def test_csv_with_quotes_line_ends_and_semicolons(tmp_path: Path):
    content = '\ufeffPMID,Title,Abstract,Year\n1,"A, title","Two\nlines and ""quotes""",2019\n\n2,,Text,\n'
    first, second = read(tmp_path / "a.csv", content)
    assert (first.id, first.title, first.text) == ("1", "A, title", 'Two\nlines and "quotes"')
    assert dict(first.metadata) == {"pmid": "1", "Year": "2019"}
    assert (second.id, second.title, dict(second.metadata)) == ("2", None, {"pmid": "2"})
    [third] = read(tmp_path / "b.csv", "id;content\n7;one, two\n")
    assert (third.id, third.text) == ("7", "one, two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,words\n1,a\n", "the columns are: name, words"),
        ("id,text\n1,a,b\n", r"a.csv:2: Expected 2 columns \(id, text\), got 3"),
        ('id,text\n1,"never ends\n', "unexpected end of data"),
        ("id,text\n,a\n", "The id is empty"),
    ],
)
def test_a_csv_that_is_none_is_told(tmp_path: Path, content: str, message: str):
    with pytest.raises(ReaderError, match=message):
        read(tmp_path / "a.csv", content)


@pytest.mark.parametrize(
    "record",
    [
        {"_id": "7", "text": "words"},
        {"docid": "7", "contents": "words"},
        {"id": 7, "content": "words"},
        {"pmid": 7, "abstract": "words"},
        {"page_content": "words", "metadata": {"id": "7", "source": "a"}},
        {"Document ID": "7", "Body": "words"},
    ],
    ids=lambda record: "-".join(record),
)
def test_fields_by_the_names_that_people_use(tmp_path: Path, record: dict[str, object]):
    [passage] = read(tmp_path / "a.jsonl", json.dumps(record))
    assert (passage.id, passage.text) == ("7", "words")
    assert passage.metadata.get("pmid") == ("7" if "pmid" in record else None)


def test_a_header_of_a_tsv_is_a_header(tmp_path: Path):
    [passage] = read(tmp_path / "a.tsv", "PMID\tTitle\tAbstract\n7\tA title\tA text\n")
    assert (passage.id, passage.title, passage.text, dict(passage.metadata)) == (
        "7",
        "A title",
        "A text",
        {"pmid": "7"},
    )
    with pytest.raises(ReaderError, match="names no id; the columns are: Title, Abstract"):
        read(tmp_path / "b.tsv", "Title\tAbstract\nA title\tA text\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "FN Clarivate Analytics Web of Science\nVR 1.0\nPT J\n",
            r"a Web of Science export.*RIS",
        ),
        ("@article{meyer2019,\n  title = {A}\n}\n", r"BibTeX.*RIS"),
        ("%0 Journal Article\n%T A\n", r"an EndNote export.*RIS"),
        ("123|t|A title\n123|a|A text\n", r"PubTator.*BioC"),
        ("<top>\n<num> 1\n<title> a\n</top>\n", r"TREC topics.*--queries"),
    ],
)
def test_what_is_not_read_names_the_export_to_choose(tmp_path: Path, content: str, message: str):
    for name in ("export.txt", "export.bib"):
        with pytest.raises(ReaderError, match=message):
            read(tmp_path / name, content)


def test_xml_saved_as_text_is_read_as_what_it_is(tmp_path: Path):
    article = "<PMID>7</PMID><Article><ArticleTitle>T</ArticleTitle></Article>"
    head = '<?xml version="1.0"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD" "x.dtd">\n'
    record = f"<PubmedArticle><MedlineCitation>{article}</MedlineCitation></PubmedArticle>"
    content = f"{head}<PubmedArticleSet>{record}</PubmedArticleSet>"
    [passage] = read(tmp_path / "a.txt", content)
    assert (passage.id, passage.text) == ("7", "T")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "id\ttitle\ttext\n7\tStress\t\n"),
        ("a.csv", "id,title,text\n7,Stress,\n"),
        ("a.jsonl", '{"id": "7", "title": "Stress", "text": ""}'),
    ],
)
def test_of_an_article_without_an_abstract_the_title_is_the_text(tmp_path: Path, name: str, content: str):
    [passage] = read(tmp_path / name, content)
    assert (passage.id, passage.text, passage.title) == ("7", "Stress", None)


@pytest.mark.parametrize("text", ["PMID-like words begin a note.", "TY was here.", "A note; id, text", "<b>bold</b>"])
def test_a_note_stays_a_note(tmp_path: Path, text: str):
    [passage] = read(tmp_path / "a.txt", text)
    assert passage.text == text


NOTE = "\n\n".join(f"# Part {n}\n\n" + f"Sodium of day {n} may rise by {n} mmol per litre. " * 12 for n in (1, 2, 3))


@pytest.mark.parametrize("name", ["note.txt", "note.md"])
def test_a_long_note_becomes_passages_with_their_places(tmp_path: Path, name: str):
    found = read(tmp_path / name, NOTE)
    assert [one.id for one in found] == [f"{name}#1", f"{name}#2", f"{name}#3"]
    assert [one.metadata["section"] for one in found] == ["Part 1", "Part 2", "Part 3"]
    assert all(NOTE[one.metadata["start"] :].startswith(one.text[:40]) for one in found)
    [whole] = read(tmp_path / name, NOTE, passages="whole")
    assert (whole.id, whole.text) == (name, NOTE.strip())
    with pytest.raises(ValueError, match="'parts' or 'whole'"):
        read(tmp_path / name, NOTE, passages="half")
