"""From files to questions and passages, and what is found for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.training.material import Material, read_material, read_question_texts, split_sentences
from biorerank_plugins.training.mining import (
    dense_candidates,
    lexical_candidates,
    read_candidates,
    similar_questions,
    write_candidates,
)
from biorerank_plugins.training.negatives import PairConfig, read_abstracts
from biorerank_plugins.training.pairs import build_pairs


def _jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def _question(id_: str, text: str, *snippets: str, **more: object) -> dict[str, object]:
    return {"id": id_, "question": text, "snippets": [{"text": s, "document": f"doc-{id_}"} for s in snippets], **more}


@pytest.fixture
def bioasq(tmp_path: Path) -> Path:
    return _jsonl(
        tmp_path / "bioasq.jsonl",
        _question("1", "What lowers glucose?", "Metformin lowers glucose.", "Insulin lowers glucose. It binds."),
        _question("2", "What inhibits platelets?", "Aspirin inhibits platelets.", documents=["more"]),
        _question("3", "what LOWERS glucose", "Metformin lowers glucose", "A diet lowers glucose."),
        {"id": "4", "question": "Without evidence?", "snippets": []},
    )


def test_equal_questions_and_equal_passages_are_merged(bioasq: Path):
    material = read_material([bioasq])
    assert [(q.id, q.text, sorted(q.gold)) for q in material.questions] == [
        ("1", "What lowers glucose?", [0, 1, 3]),
        ("2", "What inhibits platelets?", [2]),
    ]
    assert material.questions[0].documents == {"doc-1", "doc-3"}
    assert material.questions[1].documents == {"doc-2", "more"}
    assert material.names["3"] == "1"
    assert len(material.texts) == len(set(material.ids)) == 4


def test_inputs_of_every_kind_go_together(bioasq: Path, tmp_path: Path):
    answers = _jsonl(tmp_path / "qa.jsonl", {"id": "1", "question": "What is gout?", "answer": "A disease."})
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    _jsonl(beir / "corpus.jsonl", *({"_id": f"c{n}", "title": "T", "text": f"text {n}"} for n in range(3)))
    _jsonl(beir / "queries.jsonl", {"_id": "1", "text": "first?"}, {"_id": "x", "text": "not judged?"})
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n1\tc0\t2\n1\tc1\t1\n1\tc2\t0\n")
    extra = _jsonl(tmp_path / "more.jsonl", {"id": "e", "text": "an extra passage"})
    material = read_material([bioasq, answers, beir], corpus=[extra], min_grade=2)
    assert len({question.id for question in material.questions}) == 4  # three of them are called 1 in their files
    by_text = {q.text: [material.texts[p] for p in sorted(q.gold)] for q in material.questions}
    assert by_text["What is gout?"] == ["A disease."]
    assert by_text["first?"] == ["T. text 0"]
    assert {"T. text 2", "an extra passage"} < set(material.texts)


def test_limits_and_what_is_left_out(bioasq: Path):
    assert len(read_material([bioasq], limit_questions=1).questions) == 1
    material = read_material([bioasq], skip=lambda text: "platelets" in text)
    assert [q.id for q in material.questions] == ["1"]
    assert "Aspirin inhibits platelets." not in material.texts


def test_an_input_without_evidence_is_refused(bioasq: Path, tmp_path: Path):
    empty = _jsonl(tmp_path / "test-set.jsonl", {"id": "1", "body": "Why?"})
    with pytest.raises(ReaderError, match=r"test-set.jsonl: No question with a passage that answers it"):
        read_material([bioasq, empty])


def test_passages_are_cut_into_sentences(tmp_path: Path):
    text = "E. coli was found by Smith et al. in Fig. 2 (P < 0.05). The dose was 5.5 mg/kg i.v. daily. Yes."
    path = _jsonl(tmp_path / "q.jsonl", _question("1", "q?", text), _question("2", "r?", "Short."))
    whole = read_material([path])
    split = split_sentences(whole)
    assert split.texts == [
        "E. coli was found by Smith et al. in Fig. 2 (P < 0.05).",
        "The dose was 5.5 mg/kg i.v. daily.",
        "Short.",  # shorter than asked for, but all there is
    ]
    assert [sorted(question.gold) for question in split.questions] == [[0, 1], [2]]
    assert split.documents == ["doc-1", "doc-1", "doc-2"]
    assert split.parts[whole.ids[0]] == [0, 1]


def test_held_out_questions_are_read_from_all_that_holds_questions(bioasq: Path, tmp_path: Path):
    assert len(read_question_texts(bioasq)) == 4
    pairs = _jsonl(tmp_path / "rows.jsonl", {"question": "no id here?", "passage": "p", "label": 1})
    assert read_question_texts(pairs) == ["no id here?"]
    lines = tmp_path / "lines.txt"
    lines.write_text("one?\ntwo?\n", encoding="utf-8")
    assert read_question_texts(lines) == ["one?", "two?"]
    with pytest.raises(ReaderError):
        read_question_texts(_jsonl(tmp_path / "bad.jsonl", {"x": 1}))


def test_bm25_finds_what_shares_a_word(bioasq: Path):
    pytest.importorskip("bm25s")
    material = read_material([bioasq])
    found = lexical_candidates(material)
    assert [position for position, _ in found["2"]] == [2]  # by stem and word; the others share nothing
    assert {position for position, _ in found["1"]} == {0, 1, 3}
    assert all(a >= b for (_, a), (_, b) in zip(found["1"], found["1"][1:], strict=False))


def test_the_bi_encoder_search_is_exact_and_holds_the_gold(bioasq: Path, tiny_encoder_dir: Path):
    material = read_material([bioasq])
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    found = dense_candidates(material, encoder, depth=1)
    from biorerank_plugins import Passage

    vectors = encoder.encode_passages([Passage(str(n), text) for n, text in enumerate(material.texts)])
    for question in material.questions:
        scores = vectors @ encoder.encode_queries([question.text])[0]
        assert found[question.id][0] == (int(np.argmax(scores)), pytest.approx(float(scores.max()), abs=1e-5))
        assert {position for position, _ in found[question.id]} == question.gold | {int(np.argmax(scores))}


def test_runs_are_written_read_and_spread_over_sentences(bioasq: Path, tmp_path: Path):
    material = read_material([bioasq])
    candidates = {"1": [(1, 0.9), (0, 0.5)], "2": [(2, 0.25)]}
    write_candidates(candidates, material, tmp_path / "dense.trec", tag="t")
    assert read_candidates(tmp_path / "dense.trec", material) == (candidates, 0)
    with (tmp_path / "dense.trec").open("a") as file:
        file.write("1 Q0 unknown 3 0.1 t\nother Q0 unknown 1 0.1 t\n")
    assert read_candidates(tmp_path / "dense.trec", material)[1] == 1
    split = split_sentences(material, least_characters=2)
    spread, _ = read_candidates(tmp_path / "dense.trec", split)
    assert [split.texts[position] for position, _ in spread["1"]] == [
        "Insulin lowers glucose.", "It binds.", "Metformin lowers glucose.",
    ]  # fmt: skip
    (tmp_path / "foreign.trec").write_text("x Q0 y 1 0.5 t\n")
    with pytest.raises(ValueError, match="names none of the questions"):
        read_candidates(tmp_path / "foreign.trec", material)


def test_abstracts_follow_merged_questions(bioasq: Path, tmp_path: Path):
    material = read_material([bioasq])
    sentences = [{"text": "It acts.", "label": 1}, {"text": "We looked.", "label": 0}]
    path = _jsonl(
        tmp_path / "a.jsonl",
        {"qid": "3", "doc": "d", "sentences": sentences},
        {"qid": "unknown", "doc": "d", "sentences": sentences},
    )
    (abstract,) = read_abstracts(path, material.names)
    assert (abstract.question_id, abstract.labels) == ("1", (1, 0))
    with pytest.raises(ReaderError, match="None of the 2 abstracts"):
        read_abstracts(path, {})
    bad = _jsonl(tmp_path / "b.jsonl", {"qid": "3", "sentences": [{"text": "x", "label": 2}]})
    with pytest.raises(ReaderError, match=r"b.jsonl:1: Sentence 1: the label must be 0 or 1"):
        read_abstracts(bad, material.names)


def test_similar_questions_share_candidates_but_no_document():
    material = Material()
    for number, document in enumerate(["d0", "d1", "d0"]):
        material.add_passage(f"p{number}", f"text {number}", document)
        material.add_question(f"q{number}", f"question {number}?", [number], [])
    everything = {f"q{n}": [(p, 1.0 - p / 10) for p in range(3)] for n in range(3)}
    assert similar_questions(material.questions, everything) == {"q0": ["q1"], "q1": ["q0", "q2"], "q2": ["q1"]}


def test_all_rows_keep_the_ratio_that_was_asked_for(tmp_path: Path):
    """200 questions on topics of their own, 3 snippets each: 600 positives, 624 negatives of three kinds."""
    records = [
        _question(f"q{n}", f"what about topic{n}", *(f"topic{n} has fact{n}x{i} word{i}" for i in range(3)))
        for n in range(200)
    ]
    material = read_material([_jsonl(tmp_path / "many.jsonl", *records)])
    around = {q: [(7 * int(q.id[1:]) + i) % 600 for i in range(100)] for q in material.questions}
    found = {q.id: [(p, 1.0 if p in q.gold else 0.5) for p in positions] for q, positions in around.items()}
    sentences = [{"text": f"topic{i} unrelated{i}", "label": 0} for i in range(5)] + [{"text": "gold", "label": 1}]
    lines = [{"qid": f"q{n}", "doc": "d", "sentences": sentences} for n in range(0, 200, 4)]
    abstracts = read_abstracts(_jsonl(tmp_path / "abstracts.jsonl", *lines), material.names)
    config = PairConfig(negatives_per_positive=1.04, abstract_share=0.25, whole_abstracts=False, random_share=0.0)
    arguments = (material.questions, material.texts, material.documents, found, found, abstracts)
    rows = build_pairs(*arguments, config=config)
    assert sum(row.label for row in rows) == 600
    kinds = {kind: sum(row.source == kind for row in rows) for kind in ("same abstract", "mined")}
    assert kinds["same abstract"] == 156  # a quarter of 624
    assert kinds["mined"] == pytest.approx(468, abs=25)
    assert build_pairs(*arguments, config=config) == rows
    assert [row.label for row in rows[:20]] != [1.0] * 20  # shuffled


@pytest.mark.parametrize("pmid", [31415926, 31415926.0, "PMID: 31415926", "https://pubmed.ncbi.nlm.nih.gov/31415926/"])
def test_no_passage_of_a_gold_article_is_a_negative_however_its_pmid_is_written(tmp_path: Path, pmid: object):
    address = "http://www.ncbi.nlm.nih.gov/pubmed/31415926"
    asked = {"id": "1", "body": "What lowers glucose?", "snippets": [{"text": "Metformin.", "document": address}]}
    other = {"id": "2", "body": "What inhibits platelets?", "snippets": [{"text": "Aspirin.", "document": "x"}]}
    questions = _jsonl(tmp_path / "q.jsonl", {**asked, "documents": [address]}, other)
    corpus = _jsonl(
        tmp_path / "corpus.jsonl",
        {"id": "a", "text": "Glucose is lowered by what lowers it.", "pmid": pmid},
        {"id": "b", "text": "What lowers glucose lowers it.", "document": address},
        {"id": "31415926", "text": "What lowers glucose is in an abstract by its number."},
        {"id": "c", "text": "What lowers glucose is not in this one.", "pmid": 7},
    )
    material = read_material([questions], corpus=[corpus])
    lexical = lexical_candidates(material)
    config = PairConfig(negatives_per_positive=50, random_share=0.5)
    nothing = {question.id: [] for question in material.questions}
    rows = build_pairs(material.questions, material.texts, material.documents, nothing, lexical, (), {}, config)
    against = {row.passage for row in rows if row.label == 0 and row.question == "What lowers glucose?"}
    assert "What lowers glucose is not in this one." in against
    assert not [text for text in against if "glucose" in text.lower() and "not in this one" not in text]


def test_negatives_that_a_file_gives_are_rows_and_count(tmp_path: Path):
    path = _jsonl(
        tmp_path / "q.jsonl",
        {"query": "What lowers glucose?", "pos": ["Metformin does."], "neg": ["Aspirin does not.", "Nor rest."]},
        {"query": "What inhibits platelets?", "pos": ["Aspirin does."], "neg": ["Metformin does."]},
    )
    material = read_material([path])
    lexical = lexical_candidates(material)
    nothing = {question.id: [] for question in material.questions}
    config = PairConfig(negatives_per_positive=1, random_share=0)
    rows = build_pairs(material.questions, material.texts, material.documents, nothing, lexical, (), {}, config)
    assert {(row.question, row.passage) for row in rows if row.source == "given"} == {
        ("What lowers glucose?", "Aspirin does not."),
        ("What lowers glucose?", "Nor rest."),
        ("What inhibits platelets?", "Metformin does."),
    }
    assert [row for row in rows if row.source == "mined"] == []
