"""What metadata say of an article: many spellings, one form; nonsense is nothing; citations; retracted articles."""

from __future__ import annotations

import copy
import pickle
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scorers import by_number

from biorerank_plugins import BioReranker, Candidate, Passage
from biorerank_plugins.articles.duplicates import deduplicate
from biorerank_plugins.articles.identifiers import as_doi, as_pmid, as_year
from biorerank_plugins.articles.metadata import DEFAULT_KEYS, MetadataKeys, cite


def about(**metadata: object) -> Passage:
    return Passage("p", "text", metadata=metadata)


# PMIDs, DOIs and years

SPELLINGS = [
    *("{}", "PMID: {}", "pmid:{}", "PMID{}", "00{}", " {}\n", "{}.0"),
    "https://pubmed.ncbi.nlm.nih.gov/{}/",
    "http://www.ncbi.nlm.nih.gov/pubmed/{}",
    "https://pubmed.ncbi.nlm.nih.gov/{}/?from=x#abstract",
    "https://www.ncbi.nlm.nih.gov/pubmed/?term={}",
    "https://europepmc.org/article/MED/{}",
]


@given(st.integers(1, 99_999_999), st.sampled_from(SPELLINGS))
def test_a_pmid_is_the_same_however_it_is_written(number, spelling):
    assert as_pmid(spelling.format(number)) == str(number)
    assert as_pmid(number) == as_pmid(float(number)) == as_pmid(np.int64(number)) == str(number)
    assert as_pmid((None, spelling.format(number))) == str(number)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "n/a",
        "none",
        "0",
        0,
        -5,
        1.5,
        True,
        False,
        "PMC123",
        "12345678901",
        "1 2",
        "page 7",
        {"a": 1},
        (),
        "١٢",
    ],
)
def test_what_is_no_pmid(value):
    assert as_pmid(value) == ""


@pytest.mark.parametrize(
    ("value", "doi"),
    [
        ("10.1000/ABC", "10.1000/abc"),
        ("doi:10.1000/abc", "10.1000/abc"),
        ("DOI 10.1000/abc.", "10.1000/abc"),
        ("https://doi.org/10.1000/abc?utm=1#top", "10.1000/abc"),
        ("http://dx.doi.org/10.1000%2Fabc", "10.1000/abc"),
        ("(doi: 10.1000/abc)", "10.1000/abc"),
        ("10.1016/S0140-6736(03)12345-6", "10.1016/s0140-6736(03)12345-6"),
        ("10.1002/(SICI)1096(199601)99:1<1::AID-A1>3.0.CO;2-#", "10.1002/(sici)1096(199601)99:1<1::aid-a1>3.0.co;2-#"),
        (("", "10.1000/abc"), "10.1000/abc"),
        ("none", ""),
        ("10.1/x", ""),
        (10.1, ""),
        (None, ""),
    ],
)
def test_dois(value, doi):
    assert as_doi(value) == doi


@given(st.integers(1500, 2099))
def test_a_year_is_found_in_any_date(year):
    day = date(year, 5, 3)
    forms = [year, float(year), str(year), day, day.isoformat(), day.strftime("%Y%m%d"), int(day.strftime("%Y%m%d"))]
    forms += [day.strftime("%d %b %Y"), f"{year} Spring", f"{year}-{year + 1}", (year, 5), np.int32(year)]
    assert [as_year(form) for form in forms] == [year] * len(forms)


@pytest.mark.parametrize("value", [None, "", "in press", True, 12, 20191, "1556841600000", 1499, 2100, {}, ()])
def test_what_is_no_year(value):
    assert as_year(value) is None


# Keys


@pytest.mark.parametrize(
    "metadata",
    [
        {"pmid": 7},
        {"PMID": "7"},
        {"PubMed ID": "7"},
        {"pubmedId": 7},
        {"externalIds": {"PubMed": "7", "DOI": "10.1000/X"}},
        {"ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/7"}},
        {"ids.pmid": 7},
        {"document": "http://www.ncbi.nlm.nih.gov/pubmed/7"},
        {"source": "https://pubmed.ncbi.nlm.nih.gov/7/"},
        {"pmid": "n/a", "url": "https://pubmed.ncbi.nlm.nih.gov/7/"},
        {"pmid": float("nan"), "pubmed_id": np.float64(7)},
    ],
)
def test_common_spellings_of_the_key(metadata):
    assert DEFAULT_KEYS.pmid_of(about(**metadata)) == "7"


@pytest.mark.parametrize(
    "metadata", [{}, {"source": "7"}, {"document": 7}, {"url": "https://example.org/7"}, {"pmid": None}]
)
def test_a_number_alone_is_a_pmid_only_under_a_key_for_pmids(metadata):
    assert DEFAULT_KEYS.pmid_of(about(**metadata)) == ""


def test_keys_of_ones_own_replace_the_common_ones():
    keys = MetadataKeys(pmid="article.number", doi=(), year=("issued", "year"))
    passage = about(article={"Number": 7}, pmid=8, doi="10.1000/x", issued="?", year=2019)
    assert (keys.pmid_of(passage), keys.doi_of(passage), keys.year_of(passage)) == ("7", "", 2019)
    assert DEFAULT_KEYS.pmid_of(passage) == "8"


@pytest.mark.parametrize(
    ("value", "error"), [(3, TypeError), (("a", 3), TypeError), ("", ValueError), (" ", ValueError)]
)
def test_impossible_keys_are_refused(value, error):
    with pytest.raises(error, match=r"MetadataKeys\.year"):
        MetadataKeys(year=value)


def test_only_keys_are_taken_for_keys():
    with pytest.raises(TypeError, match="metadata_keys must be MetadataKeys or None, got dict"):
        BioReranker(by_number(), metadata_keys={"year": "issued"})


def test_keys_can_be_copied_and_compared():
    keys = MetadataKeys(year=["issued"])
    assert keys == MetadataKeys(year="issued") == pickle.loads(pickle.dumps(keys)) == copy.deepcopy(keys)
    assert hash(keys) == hash(MetadataKeys(year="issued"))


@pytest.mark.parametrize(
    ("value", "types"),
    [
        (["Review", "Meta-Analysis"], ("Review", "Meta-Analysis")),
        ("Review; Clinical Trial, Phase III", ("Review", "Clinical Trial, Phase III")),
        ("Review|Letter", ("Review", "Letter")),
        (np.array(["Review"]), ("Review",)),
        ([{"name": "Review"}, {}], ("Review",)),
        ([], ()),
        (5, ()),
        (None, ()),
    ],
)
def test_publication_types(value, types):
    assert DEFAULT_KEYS.publication_types_of(about(publicationTypes=value)) == types


# Retracted articles


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({"retracted": True}, None),
        ({"retracted": np.bool_(True)}, None),
        ({"is_retracted": "True"}, None),
        ({"isRetracted": 1}, None),
        ({"retracted": "2021-03-01"}, None),
        ({"retracted": [{"notice": "33333"}]}, None),
        ({"retracted": False, "publication_types": ["Journal Article", "Retracted Publication"]}, None),
        ({}, "RETRACTED: On TP53."),
        ({}, "[Retracted] On TP53."),
        ({}, "Retracted Article: on TP53"),
        ({"title": "Retracted: on TP53"}, None),
    ],
)
def test_retracted(metadata, title):
    assert DEFAULT_KEYS.retracted_in(Passage("p", "text", title, metadata))


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({}, None),
        ({"retracted": False}, None),
        ({"retracted": 0}, None),
        ({"retracted": "no"}, None),
        ({"retracted": "Not retracted as of 2024"}, None),
        ({"retracted": []}, None),
        ({"retracted": float("nan")}, None),
        ({"publication_types": ["Retraction of Publication"]}, None),
        ({}, "Retracted eardrums in children: a cohort"),
        ({}, "How many articles are retracted: a survey"),
    ],
)
def test_not_retracted(metadata, title):
    assert not DEFAULT_KEYS.retracted_in(Passage("p", "text", title, metadata))


ARTICLES = [
    Passage("a", "1 x", metadata={"pmid": "11"}),
    Passage("b", "3 x", metadata={"retracted": True, "pmid": "12"}),
    Passage("c", "2 x", metadata={"pmid": "PMID: 11"}),
    Passage("d", "0 x", metadata={"pmid": 12}),
]


def test_retracted_articles_are_kept_flagged_or_dropped():
    reranker = BioReranker(by_number())
    kept, flagged, dropped = (reranker.rank("q", ARTICLES, retracted=how) for how in ("keep", "flag", "drop"))
    assert [(r.passage.id, r.retracted) for r in kept] == [("b", None), ("c", None), ("a", None), ("d", None)]
    assert [(r.passage.id, r.retracted) for r in flagged] == [("b", True), ("c", False), ("a", False), ("d", False)]
    assert [(r.passage.id, r.retracted, r.input_index) for r in dropped] == [
        ("c", False, 2),
        ("a", False, 0),
        ("d", False, 3),
    ]
    assert [(p.id, why) for p, why in zip(dropped.dropped, dropped.drop_reasons, strict=True)] == [("b", "retracted")]


def test_a_retracted_article_takes_no_sound_duplicate_with_it():
    ranking = BioReranker(by_number()).rank("q", ARTICLES, retracted="drop", deduplicate=["pmid", "doi", "text"])
    assert [r.passage.id for r in ranking] == ["a", "d"]
    assert ranking.to_dict()["dropped"] == ["b", "c"]
    assert ranking.to_dict()["drop_reasons"] == ["retracted", "duplicate"]
    assert pickle.loads(pickle.dumps(ranking)).drop_reasons == ranking.drop_reasons


def test_an_article_that_was_dropped_is_no_evidence(tmp_path, tiny_cross_encoder_dir):
    import json
    import shutil

    shutil.copytree(tiny_cross_encoder_dir, tmp_path / "m")
    (tmp_path / "m" / "biorerank.json").write_text(json.dumps({"calibration": {"evidence_threshold": 0.0}}))
    reranker = BioReranker(tmp_path / "m", device="cpu")
    only = [Passage("b", "aspirin", metadata={"retracted": True})]
    assert reranker.rank("aspirin", only).no_evidence is False
    assert reranker.rank("aspirin", only, retracted="drop").no_evidence is True


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, 1, 2])), max_size=8))
def test_every_passage_is_ranked_or_dropped_for_a_reason(drawn):
    passages = [
        Passage(str(n), f"{n} x", metadata={"retracted": bad, **({} if pmid is None else {"pmid": pmid})})
        for n, (bad, pmid) in enumerate(drawn)
    ]
    ranking = BioReranker(by_number()).rank("q", passages, retracted="drop", deduplicate="pmid")
    seen: set[int] = set()
    expected: list[tuple[str, str]] = []
    for n, (bad, pmid) in enumerate(drawn):
        if bad or pmid in seen:
            expected.append((str(n), "retracted" if bad else "duplicate"))
        elif pmid is not None:
            seen.add(pmid)
    assert [(p.id, why) for p, why in zip(ranking.dropped, ranking.drop_reasons, strict=True)] == expected
    assert len(ranking) + len(expected) == len(drawn)


@pytest.mark.parametrize("how", ["remove", "", None, True])
def test_an_unknown_word_is_refused(how):
    with pytest.raises(ValueError, match=r"retracted=.* is unknown\. Choose one of: keep, flag, drop"):
        BioReranker(by_number()).rank("q", [], retracted=how)


# Duplicates


@pytest.mark.parametrize(
    ("key", "a", "b"),
    [
        ("pmid", {"pmid": 7}, {"PMID": "PMID: 0007"}),
        ("pmid", {"pmid": "https://pubmed.ncbi.nlm.nih.gov/7/"}, {"source": "http://www.ncbi.nlm.nih.gov/pubmed/7"}),
        ("doi", {"doi": "10.1000/AbC"}, {"url": "https://doi.org/10.1000/abc"}),
    ],
)
def test_the_same_article_is_found_through_spellings(key, a, b):
    pair = [Candidate(Passage("1", "x", metadata=a)), Candidate(Passage("2", "y", metadata=b))]
    assert deduplicate(pair, key) == ([0], [1])


def test_what_says_nothing_makes_no_duplicates():
    pair = [Candidate(Passage(str(n), str(n), metadata={"pmid": "n/a", "doi": "unknown"})) for n in range(2)]
    assert deduplicate(pair, ["pmid", "doi"]) == ([0, 1], [])


def test_the_reranker_uses_its_own_keys():
    passages = [Passage(str(n), f"{n} x", metadata={"number": 7, "bad": n == 0}) for n in range(3)]
    reranker = BioReranker(by_number(), metadata_keys=MetadataKeys(pmid="number", retracted="bad"))
    assert [r.passage.id for r in reranker.rank("q", passages, deduplicate="pmid", retracted="drop")] == ["1"]
    assert len(BioReranker(by_number()).rank("q", passages, deduplicate="pmid", retracted="drop")) == 3


# Citations


@pytest.mark.parametrize(
    ("title", "metadata", "citation"),
    [
        ("T.", {"pmid": 1, "doi": "https://doi.org/10.1000/X"}, "T. PMID: 1. doi: 10.1000/x."),
        ("Does it?", {"journal": "BMJ", "pub_date": "2019-05"}, "Does it? BMJ. 2019. p."),
        (None, {"title": "From  metadata\n", "pmid": "n/a"}, "From metadata. p."),
        ("T", {"authors": "Lee K; Wu L"}, "Lee K, Wu L. T. p."),
        (
            "T",
            {"authors": ["Silva, João", "O'Neil, Mary-Ann K.", "Doe, Jr., J"]},
            "Silva J, O'Neil MAK, Doe, Jr., J. T. p.",
        ),
        ("T", {"authors": ["A B", "C D", "E F", "G H"]}, "A B, C D, E F, et al. T. p."),
        ("T", {"author": [{"family": "Lee", "given": "Kim"}, {"name": "Wu L"}, {}]}, "Lee Kim, Wu L. T. p."),
        ("T", {"journal": {"name": "BMJ", "volume": 3}}, "T. BMJ. p."),
        ("T", {"retracted": True, "pmid": 1}, "T [retracted]. PMID: 1."),
        (None, {"retracted": True, "pmid": 1}, "[retracted]. PMID: 1."),
        ("T", {"url": "https://example.org/a"}, "T. https://example.org/a"),
        (None, {}, "p."),
    ],
)
def test_citations(title, metadata, citation):
    assert cite(Passage("p", "x", title, metadata)) == citation


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([name for field in DEFAULT_KEYS.__slots__ for name in getattr(DEFAULT_KEYS, field)])


@given(st.dictionaries(NAMES | st.text(max_size=6), JSON, max_size=6), st.none() | st.text(max_size=8))
def test_no_metadata_whatever_break_anything(metadata, title):
    passage = Passage("p", "text", title, metadata)
    pmid, year = DEFAULT_KEYS.pmid_of(passage), DEFAULT_KEYS.year_of(passage)
    assert pmid == "" or (pmid.isdigit() and pmid[0] != "0")
    assert year is None or 1500 <= year <= 2099
    assert isinstance(DEFAULT_KEYS.retracted_in(passage), bool)
    citation = cite(passage)
    assert citation and citation == " ".join(citation.split())
