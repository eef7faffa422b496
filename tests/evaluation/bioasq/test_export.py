"""BioASQ submissions: offsets cut the section exactly, our own reader reads them back, and nothing is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins import BioReranker, Evidence, Passage, RankedPassage, Ranking
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.evaluation.bioasq.export import Submission, bioasq_submission, question_types
from biorerank_plugins.evaluation.bioasq.gold import read_gold
from biorerank_plugins.readers import Query, read_passages, read_queries
from biorerank_plugins.text.sentences import split_sentences

QUESTION = Query("q1", "does p53 suppress tumours?")
ADDRESS = "http://www.ncbi.nlm.nih.gov/pubmed/"


def ranking(*passages: Passage, scores: dict[str, float] | None = None) -> Ranking:
    """A ranking in the order given; each sentence is evidence, by default the better the earlier it comes."""
    lines, place = [], 0
    for rank, passage in enumerate(passages, start=1):
        evidence = []
        for start, end in split_sentences(passage.text):
            place += 1
            text = passage.text[start:end]
            score = (scores or {}).get(text, 1 - place / 1000)
            evidence.append(Evidence(text, start, end, score, score))
        lines.append(RankedPassage(passage, rank - 1, rank, 1.0, 0.7, 0.7, evidence=tuple(evidence)))
    return Ranking(QUESTION.text, tuple(lines))


def export(*passages: Passage, **options) -> Submission:
    scores = options.pop("scores", None)
    return bioasq_submission([(QUESTION, ranking(*passages, scores=scores))], **options)


def only(submission: Submission) -> dict:
    [question] = submission.questions
    return question


def article(pmid: int, text: str, title: str | None = None, **metadata) -> Passage:
    return Passage(f"passage-{pmid}", text, title, {"pmid": pmid, **metadata})


def test_a_question_as_bioasq_writes_it():
    found = only(export(article(7, "P53 acts. It suppresses."), scores={"It suppresses.": 0.9, "P53 acts.": 0.2}))
    assert found == {
        "id": "q1",
        "body": "does p53 suppress tumours?",
        "documents": [ADDRESS + "7"],
        "snippets": [
            {
                "document": ADDRESS + "7",
                "text": "It suppresses.",
                "offsetInBeginSection": 10,
                "offsetInEndSection": 24,
                "beginSection": "abstract",
                "endSection": "abstract",
            },
            {
                "document": ADDRESS + "7",
                "text": "P53 acts.",
                "offsetInBeginSection": 0,
                "offsetInEndSection": 9,
                "beginSection": "abstract",
                "endSection": "abstract",
            },
        ],
    }


def test_ten_documents_in_the_order_of_the_ranking_and_the_ten_best_sentences_of_them():
    passages = [article(n, f"First of {n}. Second of {n}.") for n in range(1, 13)]
    scores = {f"Second of {n}.": n / 100 + 0.5 for n in range(1, 13)} | {f"First of {n}.": 0.1 for n in range(1, 13)}
    found = only(export(*passages, scores=scores))
    assert found["documents"] == [f"{ADDRESS}{n}" for n in range(1, 11)]
    assert [snippet["text"] for snippet in found["snippets"]] == [f"Second of {n}." for n in range(10, 0, -1)]


def test_a_document_is_listed_once_however_many_passages_are_of_it():
    parts = [article(7, "One.", offset=0), article(8, "Other."), article(7, "Two.", offset=5)]
    found = only(export(*parts))
    assert found["documents"] == [ADDRESS + "7", ADDRESS + "8"]
    places = {snippet["text"]: snippet["offsetInBeginSection"] for snippet in found["snippets"]}
    assert places == {"One.": 0, "Other.": 0, "Two.": 5}


# Sections


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("P53", "P53. It acts.", [("title", 0, "P53"), ("abstract", 0, "It acts.")]),
        ("P53.", "P53. It acts.", [("title", 0, "P53."), ("abstract", 0, "It acts.")]),
        ("P53.", "P53.\n\nIt acts. So.", [("title", 0, "P53."), ("abstract", 0, "It acts."), ("abstract", 9, "So.")]),
        ("P53 in mice", "P53 in mice It acts.", [("abstract", 0, "It acts.")]),  # no sentence ends with the title
        ("P53 acts.", "P53 acts.", [("title", 0, "P53 acts.")]),
        ("P53", "It acts.", [("abstract", 0, "It acts.")]),
        (None, "It acts.", [("abstract", 0, "It acts.")]),
        ("  ", "It acts.", [("abstract", 0, "It acts.")]),
    ],
)
def test_the_section_of_a_sentence(title, text, expected):
    snippets = only(export(article(7, text, title)))["snippets"]
    assert [(s["beginSection"], s["offsetInBeginSection"], s["text"]) for s in snippets] == expected
    assert all(s["endSection"] == s["beginSection"] for s in snippets)
    assert all(s["offsetInEndSection"] - s["offsetInBeginSection"] == len(s["text"]) for s in snippets)


@pytest.mark.parametrize(
    ("metadata", "section", "begin"),
    [
        ({"section": "title"}, "title", 0),
        ({"section": "sections.0"}, "sections.0", 0),
        ({"section": "abstract", "offset": 120}, "abstract", 120),
        ({"offset": 120}, "abstract", 120),
        ({"offset": True}, "abstract", 0),
        ({"offset": "12"}, "abstract", 0),
        ({"offset": -3, "section": 5}, "abstract", 0),
    ],
)
def test_metadata_can_say_which_piece_a_passage_is(metadata, section, begin):
    [snippet] = only(export(article(7, "P53 acts.", "P53 acts.X", **metadata)))["snippets"]
    assert (snippet["beginSection"], snippet["offsetInBeginSection"]) == (section, begin)


def test_titles_are_snippets_too_where_something_scores_them():
    asked: list[tuple[str, list[str]]] = []

    def score(question, texts):
        asked.append((question, list(texts)))
        return [2.0 if "P53" in text else 0.0 for text in texts]

    passages = [article(7, "It acts.", " P53 in mice\n"), article(8, "In title. So.", "In title."), article(9, "No.")]
    found = only(export(*passages, article(7, "It acts.", "Another"), score=score))
    assert asked == [(QUESTION.text, ["P53 in mice"])]
    best = found["snippets"][0]
    assert (best["document"], best["beginSection"], best["text"]) == (ADDRESS + "7", "title", "P53 in mice")
    assert " P53 in mice\n"[best["offsetInBeginSection"] : best["offsetInEndSection"]] == "P53 in mice"
    assert [s["text"] for s in found["snippets"]].count("It acts.") == 1


def test_the_reranker_scores_titles_as_it_scores_sentences(tiny_cross_encoder_dir: Path):
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    passages = [article(7, "Aspirin inhibits platelets. P53 suppresses tumours.", "Insulin lowers glucose.")]
    ranked = reranker.rank(QUESTION.text, passages, evidence=10)
    found = only(bioasq_submission([(QUESTION, ranked)], score=reranker.score))
    texts = [passages[0].title, *(e.text for e in ranked[0].evidence)]
    values = dict(zip(texts, reranker.score(QUESTION.text, texts), strict=True))
    assert [s["text"] for s in found["snippets"]] == sorted(texts, key=lambda text: -values[text])


# Offsets, whatever the text

TEXTS = st.text(
    st.sampled_from("ab .?!\n\t\u00a0é\u0301αא😀\u2028\x00(0)") | st.characters(exclude_categories=["Cs"]), max_size=60
)


@given(
    st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.booleans(), st.none() | st.integers(0, 9)), min_size=1, max_size=4)
)
def test_offsets_cut_the_section_exactly(drawn):
    passages, sections = [], {}
    for pmid, (text, title, joined, offset) in enumerate(drawn, start=1):
        metadata = {} if offset is None else {"offset": offset}
        whole = f"{title}. {text}" if joined and title else text
        passages.append(article(pmid, whole, title, **metadata))
        begins = bool(title and title.strip()) and whole.startswith(title) and not offset
        sections[f"{ADDRESS}{pmid}", "title"] = title or ""
        behind = whole[len(title) :].lstrip().lstrip(".").lstrip() if begins else whole
        while begins and behind[:1] and (behind[0].isspace() or behind[0] == "."):
            behind = behind[1:]
        sections[f"{ADDRESS}{pmid}", "abstract"] = " " * (offset or 0) + behind
    found = only(export(*passages, score=lambda question, texts: [0.5] * len(texts)))
    spans: dict[tuple[str, str], set[int]] = {}
    for snippet in found["snippets"]:
        place = snippet["document"], snippet["beginSection"]
        begin, end = snippet["offsetInBeginSection"], snippet["offsetInEndSection"]
        assert sections[place][begin:end] == snippet["text"] != ""
        assert snippet["text"] == snippet["text"].strip()
        taken = spans.setdefault(place, set())
        assert taken.isdisjoint(range(begin, end))
        taken |= set(range(begin, end))
    assert len(found["snippets"]) <= 10


# Round trip


def test_our_reader_reads_back_what_was_written(tmp_path: Path):
    path = tmp_path / "submission.json"
    passages = [article(7, "P53 acts. It suppresses α-tumours 😀.", "On P53"), article(8, "Nothing.", offset=30)]
    made = export(*passages, score=lambda question, texts: [2.0], types={"q1": "yesno"})
    made.write(path)
    assert json.loads(path.read_text(encoding="utf-8")) == made.to_dict()
    assert read_queries(path) == [QUESTION]
    assert question_types(path) == {"q1": "yesno"}
    gold = read_gold(path)
    assert gold.documents["q1"] == ["7", "8"]
    assert gold.has_offsets
    written = only(made)["snippets"]
    assert [(s.document, s.text) for s in gold.snippets["q1"]] == [
        (s["document"].removeprefix(ADDRESS), s["text"]) for s in written
    ]
    assert [(s.span.begin, s.span.end) for s in gold.snippets["q1"]] == [
        (s["offsetInBeginSection"], s["offsetInEndSection"]) for s in written
    ]
    read = list(read_passages(path, format="bioasq"))
    assert [(p.text, p.metadata["pmid"], p.metadata["section"]) for p in read] == [
        ("On P53", "7", "title"),
        ("P53 acts.", "7", "abstract"),
        ("It suppresses α-tumours 😀.", "7", "abstract"),
        ("Nothing.", "8", "abstract"),
    ]


def test_types_of_files_that_have_none(tmp_path: Path):
    (tmp_path / "q.tsv").write_text("1\tWhat?\n")
    (tmp_path / "q.jsonl").write_text('{"id": "1", "text": "What?"}\n')
    assert question_types(tmp_path / "q.tsv") == question_types(tmp_path / "q.jsonl") == {}


# What cannot be handed in


def test_the_pmid_may_be_the_id_and_passages_without_one_are_told():
    passages = [
        Passage("23185200", "A."),
        Passage("p1", "B."),
        Passage("0", "C."),
        Passage("x", "D.", metadata={"n": 5}),
    ]
    made = export(*passages)
    assert (only(made)["documents"], made.without_pmid) == ([ADDRESS + "23185200"], ("p1", "0", "x"))
    made = export(*passages, metadata_keys=MetadataKeys(pmid="n"))
    assert (only(made)["documents"], made.without_pmid) == ([ADDRESS + "23185200", ADDRESS + "5"], ("p1", "0"))


def test_a_collection_without_pmids_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"None of the 2 passages has a PMID.*metadata\['pmid'\]"):
        export(Passage("a", "A."), Passage("b", "B."))


def test_two_texts_cannot_begin_at_the_same_place_of_an_article():
    made = export(
        article(7, "One."),
        Passage("other", "Two.", metadata={"pmid": 7}),
        Passage("same", "One.", metadata={"pmid": 7}),
    )
    assert made.out_of_place == ("other",)
    assert [snippet["text"] for snippet in only(made)["snippets"]] == ["One."]


def test_an_empty_ranking_is_a_question_without_answers():
    question = only(bioasq_submission([(QUESTION, Ranking(QUESTION.text))]))
    assert (question["documents"], question["snippets"]) == ([], [])
    assert bioasq_submission([]).to_dict() == {"questions": []}


def test_a_ranking_without_sentences_is_refused():
    bare = RankedPassage(article(7, "A."), 0, 1, 1.0, 0.7, 0.7)
    with pytest.raises(ValueError, match="question 'q1' has no evidence: rank with evidence=10"):
        bioasq_submission([(QUESTION, Ranking(QUESTION.text, (bare,)))])
    blank = RankedPassage(article(7, " \n"), 0, 1, 1.0, 0.7, 0.7)
    assert only(bioasq_submission([(QUESTION, Ranking(QUESTION.text, (blank,)))]))["documents"] == [ADDRESS + "7"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    made = export(article(7, "A."))
    with pytest.raises(OSError):
        made.write(tmp_path / "no" / "file.json")
