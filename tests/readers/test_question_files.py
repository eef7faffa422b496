"""Questions of every kind of file, and what answers them."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import parquet
from support.spoil import spoil_bytes

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import Query, ReadReport, read_queries
from biorerank_plugins.readers.answered import AnsweredQuestion, read_answered

PUBMEDQA = {
    "21645374": {
        "QUESTION": "Do mitochondria play a role?",
        "CONTEXTS": ["Programmed cell death.", "It was studied."],
        "LABELS": ["BACKGROUND", "METHODS"],
        "LONG_ANSWER": "They do.",
        "final_decision": "yes",
    },
    "16418930": {"QUESTION": "Is it safe?", "CONTEXTS": ["A trial."], "LONG_ANSWER": "No.", "final_decision": "no"},
}
PUBMEDQA_HUB = {
    "pubid": 21645374,
    "question": "Do mitochondria play a role?",
    "context": {"contexts": ["Programmed cell death.", "It was studied."], "labels": ["BACKGROUND", "METHODS"]},
    "long_answer": "They do.",
    "final_decision": "yes",
}
SQUAD = {
    "version": "covid",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "Fever is common. Cough too.",
                    "document_id": 630,
                    "qas": [
                        {"question": "What is common?", "id": 262, "answers": [{"text": "Fever", "answer_start": 0}]},
                        {"question": "What is rare?", "id": 263, "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
MIRAGE = {
    "medqa": {"0000": {"question": "Which agent?", "options": {"A": "a", "B": "b"}, "answer": "B"}},
    "pubmedqa": {"12377809": {"question": "Is it so?", "options": {"A": "yes"}, "answer": "A", "PMID": [12377809]}},
}
CLASSIC = b"""<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations that participate
in international criminal activity.

<narr> Narrative:
A relevant document must name one.
</top>
<top><num>302</num><title>Poliomyelitis</title></top>
"""
COVID = b"""<?xml version="1.0"?><topics task="COVIDSearch 2020">
<topic number="1"><query>coronavirus origin</query><question>what is the origin of COVID-19</question>
<narrative>seeking evidence</narrative></topic>
<topic number="2"><note>raw</note><description>long</description><summary>A woman with H<sub>2</sub>O.</summary></topic>
<topic number="3">A 40-year-old man. <b>No fever.</b></topic></topics>"""
PAIRS = {"query": "What lowers glucose?", "pos": ["Metformin."], "neg": ["Aspirin.", "Rest."]}


def queries(data: bytes | object, **options: Any) -> list[tuple[str, str]]:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return [(one.id, one.text) for one in read_queries(io.BytesIO(raw), **options)]


def answered(data: bytes | object, **options: Any) -> list[AnsweredQuestion]:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return list(read_answered(io.BytesIO(raw), **options))


@pytest.mark.parametrize("indent", [None, 2])
def test_pubmedqa_by_id_and_as_the_hub_has_it(indent: int | None):
    data = json.dumps(PUBMEDQA, indent=indent).encode()
    assert queries(data) == [("21645374", "Do mitochondria play a role?"), ("16418930", "Is it safe?")]
    for question in (answered(data)[0], answered(PUBMEDQA_HUB)[0], answered([PUBMEDQA_HUB])[0]):
        assert (question.id, question.text) == ("21645374", "Do mitochondria play a role?")
        assert [one.text for one in question.passages] == ["Programmed cell death.", "It was studied."]
        assert question.documents == {"21645374"}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad(indent: int | None):
    data = json.dumps(SQUAD, indent=indent).encode()
    assert queries(data) == [("262", "What is common?"), ("263", "What is rare?")]
    first, second = answered(data)
    assert [(one.text, one.title, one.metadata["document"]) for one in first.passages] == [
        ("Fever is common. Cough too.", "T", "630")
    ]
    assert second.passages == ()


def test_parquet_as_the_hub_has_it():
    hub = {name: [value] for name, value in PUBMEDQA_HUB.items()}
    assert queries(parquet(**hub)) == [("21645374", "Do mitochondria play a role?")]
    [question] = answered(parquet(**hub))
    assert ([one.text for one in question.passages], question.documents) == (
        ["Programmed cell death.", "It was studied."],
        {"21645374"},
    )
    squad = {
        "id": ["1", "2"],
        "title": ["T", "T"],
        "context": ["Fever is common.", "Fever is common."],
        "question": ["What is common?", "What is rare?"],
        "answers": [{"text": ["Fever"], "answer_start": [0]}, {"text": [], "answer_start": []}],
    }
    first, second = answered(parquet(**squad))
    assert [(one.text, one.title) for one in first.passages] == [("Fever is common.", "T")]
    assert second.passages == ()
    with pytest.raises(ReaderError, match="No 'question'"):
        queries(parquet(name=["x"]))


def test_mirage_has_questions_of_several_collections():
    expected = [("medqa/0000", "Which agent?"), ("pubmedqa/12377809", "Is it so?")]
    assert queries(MIRAGE) == queries(json.dumps(MIRAGE, indent=4).encode()) == expected
    assert [one.passages for one in answered(MIRAGE)] == [(), ()]


def test_trec_topics_classic_and_xml(tmp_path: Path):
    for name in ("topics.txt", "topics.trec", "topics"):
        (tmp_path / name).write_bytes(CLASSIC)
        assert read_queries(tmp_path / name) == [
            Query("301", "Identify organizations that participate in international criminal activity."),
            Query("302", "Poliomyelitis"),
        ]
    (tmp_path / "topics.xml").write_bytes(COVID)
    assert read_queries(tmp_path / "topics.xml") == [
        Query("1", "what is the origin of COVID-19"),
        Query("2", "A woman with H2O."),
        Query("3", "A 40-year-old man. No fever."),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<top>\n<title> No number\n</top>", "no number"),
        (b"<topics><topic number='1'/></topics>", "no text"),
        (b"<topics><topic number='1'>", "Not well-formed"),
        (b'<!DOCTYPE topics [<!ENTITY a "b">]><topics><topic number="1">&a;</topic></topics>', "XML holds no queries"),
        (b'{"data": [{"title": "x", "paragraphs": 5}]}', "SQuAD"),
        (b'{"1": {"QUESTION": 5}}', "must be a string"),
        (b'[{"question": "a"}, {"answer": "b"}]', "No 'question'"),
    ],
)
def test_what_is_malformed_is_named(content: bytes, message: str):
    with pytest.raises(ReaderError, match=message):
        read_queries(io.BytesIO(content))


NAMES = [("id", "question"), ("qid", "query"), ("_id", "text"), ("query_id", "Question"), ("Query-ID", "query_text")]


@pytest.mark.parametrize(("id_name", "name"), NAMES)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_the_same_names_everywhere(tmp_path: Path, id_name: str, name: str, kind: str):
    record = {id_name: "q7", name: "What lowers glucose, and why?", "more": "x"}
    content = {
        "csv": f'{id_name},{name},more\nq7,"What lowers glucose, and why?",x\n',
        "tsv": f"{id_name}\t{name}\tmore\nq7\tWhat lowers glucose, and why?\tx\n",
        "jsonl": json.dumps(record),
        "json": json.dumps([record], indent=1),
    }[kind]
    (tmp_path / f"q.{kind}").write_text(content)
    assert read_queries(tmp_path / f"q.{kind}") == [Query("q7", "What lowers glucose, and why?")]


def test_questions_without_ids_are_named_by_their_lines(tmp_path: Path):
    (tmp_path / "q.csv").write_text("question,answer\nWhy?,Because.\nHow?,So.\n")
    assert read_queries(tmp_path / "q.csv") == [Query("2", "Why?"), Query("3", "How?")]
    first, second = read_answered(tmp_path / "q.csv")
    assert [(one.text, one.passages[0].text) for one in (first, second)] == [("Why?", "Because."), ("How?", "So.")]
    (tmp_path / "bad.csv").write_text("name,answer\nWhy?,Because.\n")
    with pytest.raises(ReaderError, match=r"names a question.*name, answer"):
        read_queries(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    "record",
    [
        PAIRS,
        {"query": PAIRS["query"], "positive": "Metformin.", "negative": ["Aspirin.", "Rest."]},
        {"anchor": PAIRS["query"], "positives": ["Metformin."], "negatives": ["Aspirin.", "Rest."]},
        {
            "query": PAIRS["query"],
            "positive_passages": [{"docid": "1", "text": "Metformin."}],
            "negative_passages": [{"text": "Aspirin."}, {"text": "Rest."}],
        },
    ],
)
def test_pairs_with_negatives(record: dict[str, Any]):
    [question] = answered(record)
    assert (question.id, question.text) == ("", "What lowers glucose?")
    assert [one.text for one in question.passages] == ["Metformin."]
    assert [one.text for one in question.negatives] == ["Aspirin.", "Rest."]
    assert queries(record) == [("1", "What lowers glucose?")]


def test_malformed_questions_are_skipped_and_counted():
    report = ReadReport()
    data = b'{"id": 1, "question": "Why?"}\n{"id": 2}\n{"id": 1, "question": "Other?"}\n'
    assert queries(data, bad_lines="skip", report=report) == [("1", "Why?")]
    assert [one.line for one in report.skipped] == [2, 3]


GOOD = (CLASSIC, COVID, *(json.dumps(one).encode() for one in (PUBMEDQA, SQUAD, MIRAGE, PAIRS, [PUBMEDQA_HUB])))


@given(st.integers(0, 2**32), st.sampled_from(GOOD), st.sampled_from(["error", "skip"]))
def test_spoilt_questions_raise_nothing_but_the_package_s_own_error(seed: int, good: bytes, bad_lines: str):
    spoilt = spoil_bytes(good, random.Random(seed))
    for read in (read_queries, read_answered):
        try:
            for one in read(io.BytesIO(spoilt), bad_lines=bad_lines):  # type: ignore[operator]
                assert one.text.strip()
        except ReaderError as error:
            assert str(error)
