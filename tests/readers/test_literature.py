"""Full texts and records of articles: JATS, BioC, Europe PMC, and what PubMed XML says beside the abstract."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.spoil import spoil_bytes

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "formats"
ARTICLE = {
    "pmid": "31415926",
    "pmcid": "PMC7777777",
    "doi": "10.1000/bleed.7",
    "journal": "Journal of Bleeding",
    "year": 2019,
}


def read(name: str, **options: object) -> list[Passage]:
    return list(read_passages(FIXTURES / name, **options))  # type: ignore[arg-type]


def data(passage: Passage) -> dict[str, object]:
    return passage.to_dict()["metadata"]


def test_jats_gives_the_abstract_and_each_section_under_its_headings():
    found = read("article.nxml", passages="whole")
    about = {
        **ARTICLE,
        "authors": ["Meyer, Anna", "The BLEED Group"],
        "publication_types": ["research-article"],
        "keywords": ["idarucizumab", "bleeding"],
        "language": "en",
    }
    assert [one.id for one in found] == [f"PMC7777777#{number}" for number in range(1, 6)]
    assert {one.title for one in found} == {"Reversal of dabigatran at 10^6 cells*"}
    assert data(found[0]) == {**about, "section": "Abstract"}
    assert found[0].text == "Aim: To reverse dabigatran.\nResults: It was reversed in minutes."
    assert (found[1].text, data(found[1])) == ("Opening words without a heading.", about)
    assert found[2].text == "We followed earlier work and Smith 2010."
    assert data(found[2]) == {**about, "section": "Methods", "section_type": "methods"}
    assert found[3].metadata["section"] == "Methods > Patients"
    assert found[3].text.split("\n\n") == [
        "Forty adults took part.", "Bleeding.", "Surgery.", "Flow. Flow of the patients.", "Doses by weight.",
    ]  # fmt: skip
    assert found[4].text == "The dose was 5 g of H2O2."
    everything = " ".join(one.text for one in found)
    for word in ("SECRETCELL", "must not be read", "Read this", "begin{document}", "We thank"):
        assert word not in everything


def test_jats_by_content_in_sets_with_a_namespace_and_zipped(tmp_path: Path):
    article = (FIXTURES / "article.nxml").read_text(encoding="utf-8")
    bare = article[article.index("<article ") :]
    other = bare.replace("7777777", "8888888").replace("<body>", "<body><p>Other.</p>")
    for name, content in {
        "a.txt": article,
        "b.xml": f"<pmc-articleset>{bare}{other}</pmc-articleset>",
        "c.xml": bare.replace("<article ", '<article xmlns="https://jats.nlm.nih.gov/ns/archiving/1.3/" '),
    }.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    ids = [one.id for one in read_passages(tmp_path, passages="whole")]
    assert [sum(one.startswith(name) for one in ids) for name in ("PMC7777777#", "PMC8888888#")] == [15, 5]


def test_a_long_section_is_cut_and_its_parts_keep_the_heading(tmp_path: Path):
    article = (FIXTURES / "article.nxml").read_text(encoding="utf-8")
    long = " ".join(f"Sentence number {n} says something about bleeding." for n in range(40))
    (tmp_path / "a.nxml").write_text(article.replace("Forty adults took part", long), encoding="utf-8")
    parts = [one for one in read_passages(tmp_path) if one.metadata.get("section") == "Methods > Patients"]
    assert len(parts) > 2
    assert all(len(one.text) <= 620 for one in parts)


@pytest.mark.parametrize("name", ["pmc_bioc.json", "pubtator_bioc.json", "bioc.xml"])
def test_bioc_of_pmc_and_pubtator(name: str):
    found = read(name)
    first = found[0]
    assert first.title == "Reversal of dabigatran"
    assert (first.metadata["pmid"], first.metadata["year"]) == ("31415926", 2019)
    assert first.metadata["section"] == "Abstract"
    if name != "pmc_bioc.json":
        assert first.text == "Idarucizumab reverses dabigatran."
        expected = {"bioc.xml": ["31415926#1", "27182818"]}.get(name, ["PMC7777777#1"])
        assert [one.id for one in found] == expected
        return
    second = found[1]
    assert first.text == "Aim: To reverse dabigatran."
    assert data(first) == {**ARTICLE, "authors": ["Meyer, Anna"], "section": "Abstract"}
    assert (second.id, second.text) == ("PMC7777777#2", "Forty adults took part.\n\nAll of them bled.")
    assert (second.metadata["section"], second.metadata["section_type"]) == ("Methods > Patients", "METHODS")
    assert len(found) == 2


def test_bioc_json_with_a_document_a_line(tmp_path: Path):
    [document] = json.loads((FIXTURES / "pubtator_bioc.json").read_text(encoding="utf-8"))["PubTator3"]
    (tmp_path / "a.json").write_text(f"{json.dumps(document)}\n" * 2, encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps({"documents": [{"id": 7, "passages": [5], "infons": {}}]}))
    report = ReadReport()
    assert [one.id for one in read_passages(tmp_path, bad_lines="skip", report=report)] == ["PMC7777777#1"] * 2
    assert [one.reason for one in report.skipped] == ["A passage must be an object."]


def test_europe_pmc():
    first, second = read("europepmc.json")
    assert (first.id, first.title) == ("31415926", "Reversal of dabigatran.")
    assert first.text == "Aim: To count 10^6 cells at p < 0.05.\nResults: Ca2+ fell."
    assert data(first) == {
        **ARTICLE,
        "source": "MED",
        "authors": ["Meyer A", "Silva J"],
        "publication_types": ["Retracted Publication", "research-article"],
        "mesh": ["Hemorrhage"],
        "keywords": ["idarucizumab"],
        "language": "eng",
        "retracted": True,
        "expression_of_concern": True,
    }
    assert (second.id, second.text, second.title) == ("PPR12", "A preprint", None)
    assert second.metadata["authors"] == ("Doe J",)


def test_pubmed_xml_with_everything_and_three_documents_in_one_file(tmp_path: Path):
    report = ReadReport()
    first, second, third = read("efetch.xml", bad_lines="skip", report=report)
    assert first.text == "From 10^6 to 10^-3 CD4+ cells/m2; log10, H2O, Ca2+."
    assert (first.id, first.title) == ("201", "[Counts of 10^6 cells].")
    assert data(first) == {
        "pmid": "201",
        "version": 1,
        "year": 2001,
        "revised": 2021,
        "journal": "Journal of Counts",
        "doi": "10.1000/counts",
        "pmcid": "PMC1201",
        "authors": ["Silva, João", "The COUNT Group"],
        "language": "por",
        "vernacular_title": "Contagens de células.",
        "mesh": ["Cell Count"],
        "keywords": ["counting"],
        "publication_types": ["Journal Article"],
        "retracted": False,
        "expression_of_concern": True,
    }
    assert (second.id, second.title, second.text) == ("202", "Zur Zellzahl.", "ZIEL: Zellen zählen.")
    assert second.metadata["abstract_source"] == "Publisher ger"
    assert (third.id, third.title, third.metadata["year"]) == ("203", "Marfan Syndrome", 1993)
    assert third.metadata["authors"] == ("Dietz, Harry",)
    assert [(one.line, "no PMID" in one.reason) for one in report.skipped] == [(22, True)]


class _Named(io.BytesIO):
    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
@given(st.integers(0, 2**32))
def test_spoilt_files_raise_nothing_but_the_package_s_own_error(name: str, seed: int):
    chance = random.Random(seed)
    spoilt = spoil_bytes((FIXTURES / name).read_bytes(), chance)
    for bad_lines in ("error", "skip"):
        try:
            for one in read_passages(_Named(spoilt, name), bad_lines=bad_lines):  # type: ignore[arg-type]
                json.dumps(one.to_dict(), allow_nan=False)
                assert one.text.strip()
        except ReaderError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<top:><mml:math/></top:>", "Expected PubMed XML"),  # names that lxml's parser takes and its QName does not
        (b"<article><mml:math/></article>", "no <article-meta>"),
        (b"<responseWrapper><version>6</version></responseWrapper>", "format=json"),
        (b"<eSearchResult><Count>1</Count></eSearchResult>", "efetch"),
        (b'<?xml version="1.0"?><xml><records><record/></records></xml>', "an EndNote export.*RIS"),
        (b"<article><front/></article>", "no <article-meta>"),
        (b"<article><front><article-meta/></front></article>", "neither a text nor a title"),
        (b'<!DOCTYPE article [<!ENTITY a "b">]><article>&a;</article>', "declares XML entities"),
        (b'{"resultList": {"result": [{"title": "x"}]}}', "No 'id' and no 'pmid'"),
    ],
)
def test_what_is_not_read_says_why(content: bytes, message: str):
    with pytest.raises(ReaderError, match=message):
        list(read_passages(io.BytesIO(content)))
