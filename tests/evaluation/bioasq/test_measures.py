"""BioASQ's measures, against values worked out by hand and against sets of (document, offset) characters."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from biorerank_plugins import Passage
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation import qrels_by_text, read_bioasq
from biorerank_plugins.evaluation.bioasq.measured import measure_bioasq
from biorerank_plugins.evaluation.bioasq.measures import (
    Span,
    document_measures,
    geometric_mean,
    merge_spans,
    merge_texts,
    snippet_measures,
    span_overlaps,
    text_overlaps,
)

URL = "http://www.ncbi.nlm.nih.gov/pubmed/"


def _snippet(text: str, document: str, begin: int, section: str = "abstract") -> dict[str, object]:
    return {
        "text": text,
        "document": URL + document,
        "beginSection": section,
        "endSection": section,
        "offsetInBeginSection": begin,
        "offsetInEndSection": begin + len(text) - 1,
    }


def _write(folder: Path, questions: list[dict[str, object]]) -> Path:
    path = folder / "golden.json"
    path.write_text(json.dumps({"questions": questions}), encoding="utf-8")
    return path


def test_documents_by_hand() -> None:
    """Found a, x, b of the relevant a, b, c: precision 2/3, recall 2/3, AP (1/1 + 2/3) / min(3, 10)."""
    values = document_measures(["a", "x", "a", "b"], {"a", "b", "c"})
    assert values == pytest.approx({"P": 2 / 3, "R": 2 / 3, "F1": 2 / 3, "AP": (1 + 2 / 3) / 3})


def test_ten_documents_count_and_ten_is_the_largest_divisor() -> None:
    found, gold = [f"d{number}" for number in range(30)], {f"d{number}" for number in range(25)}
    values = document_measures(found, gold)
    assert values == pytest.approx({"P": 1.0, "R": 10 / 25, "F1": 2 * 0.4 / 1.4, "AP": 1.0})


@pytest.mark.parametrize(("found", "gold"), [([], {"a"}), (["x"], {"a"}), (["x"], set())])
def test_nothing_found_is_zero(found: list[str], gold: set[str]) -> None:
    assert document_measures(found, gold) == dict.fromkeys(("P", "R", "F1", "AP"), 0.0)
    assert snippet_measures([], 10, 1) == dict.fromkeys(("P", "R", "F1", "AP"), 0.0)


def test_geometric_mean_by_hand() -> None:
    assert geometric_mean([0.5, 0.125]) == pytest.approx(math.sqrt((0.5 + 1e-5) * (0.125 + 1e-5)))
    assert geometric_mean([0.0]) == pytest.approx(1e-5)


def test_snippets_by_hand() -> None:
    """Gold: 0-99 of A. Found: 50-149 of A (50 of 100 shared), 0-9 of B (none), 0-9 of A (all 10 shared)."""
    gold = [Span("A", "abstract", 0, 99)]
    found = [Span("A", "abstract", 50, 149), Span("B", "abstract", 0, 9), Span("A", "abstract", 0, 9)]
    values = snippet_measures(span_overlaps(found, gold), 100, 1)
    precision, recall = 60 / 120, 60 / 100
    assert values["P"] == pytest.approx(precision)
    assert values["R"] == pytest.approx(recall)
    assert values["F1"] == pytest.approx(2 * precision * recall / (precision + recall))
    # At rank 1 the precision is 50/100, at rank 3 60/120; one gold snippet. It may pass 1 by definition.
    assert values["AP"] == pytest.approx(50 / 100 + 60 / 120)


def test_overlapping_spans_are_merged_where_the_first_stood() -> None:
    spans = [Span("A", "s", 0, 9), Span("B", "s", 0, 9), Span("A", "s", 20, 29), Span("A", "s", 5, 24)]
    assert merge_spans(spans) == [Span("A", "s", 0, 29), Span("B", "s", 0, 9)]
    assert len(merge_spans([Span("A", "title", 0, 9), Span("A", "abstract", 0, 9)])) == 2
    assert len(merge_spans([Span("A", "s", 0, 9), Span("A", "s", 10, 19)])) == 2  # beside each other, nothing shared


def test_spans_agree_with_sets_of_characters() -> None:
    generator = random.Random(5)

    def draw(count: int) -> list[Span]:
        begins = [(generator.choice("AB"), generator.randrange(60)) for _ in range(count)]
        return [Span(name, "s", begin, begin + generator.randrange(25)) for name, begin in begins]

    for _ in range(200):
        found, gold = draw(generator.randrange(1, 8)), draw(generator.randrange(1, 8))
        returned = {(s.document, place) for s in found for place in range(s.begin, s.end + 1)}
        wanted = {(s.document, place) for s in gold for place in range(s.begin, s.end + 1)}
        merged = merge_spans(gold)
        values = snippet_measures(
            span_overlaps(merge_spans(found), merged), sum(span.size for span in merged), len(merged)
        )
        assert sum(span.size for span in merged) == len(wanted)
        assert values["P"] == pytest.approx(len(returned & wanted) / len(returned))
        assert values["R"] == pytest.approx(len(returned & wanted) / len(wanted))


def test_texts_share_the_shorter_one_inside_the_longer_one() -> None:
    gold = merge_texts([("A", "abcdefghij"), ("A", "cde")])
    assert gold == [("A", "abcdefghij")]
    found = [("A", "abcde"), ("B", "fgh"), ("", "ij"), ("A", "xxabcdefghijxx"), ("B", "abcdefghij")]
    # Within another article only an equal text counts; gold characters are counted once.
    assert text_overlaps(found, gold) == [(5, 5), (3, 0), (2, 2), (14, 3), (10, 0)]
    assert text_overlaps([("B", "abcdefghij")], gold) == [(10, 10)]


def test_lists_are_measured_by_offsets_where_all_are_known(tmp_path: Path) -> None:
    questions: list[dict[str, object]] = [
        {
            "id": "q1",
            "body": "Is gout caused by urate?",
            "documents": [URL + "1", URL + "2"],
            "snippets": [_snippet("Urate causes gout.", "1", 0), _snippet("causes gout. It hurts.", "1", 6)],
        },
        {"id": "q2", "body": "What hurts?", "documents": [URL + "2"], "snippets": [_snippet("Gout.", "2", 3)]},
    ]
    queries, gold, passages = read_bioasq(_write(tmp_path, questions))
    assert [query.id for query in queries] == ["q1", "q2"]
    assert gold.has_offsets
    by_text = {passage.text: passage for passage in passages}
    found = {"q1": [by_text["Urate causes gout."].id, by_text["Gout."].id]}
    measured = measure_bioasq(found, gold, {p.id: p for p in passages}.get, ["q1", "q2", "no gold"])
    first = {name.removeprefix("BioASQ "): values["q1"] for name, values in measured.per_query.items()}
    # The gold snippets of q1 are one piece of 28 characters; 18 of it and 5 others were returned.
    precision, recall = 18 / 23, 18 / 28
    assert first["snippets P"] == pytest.approx(precision)
    assert first["snippets R"] == pytest.approx(recall)
    assert first["snippets F1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert first["snippets AP"] == pytest.approx(1.0)
    assert first["documents AP"] == pytest.approx(1.0)
    assert measured.per_query["BioASQ documents F1"] == {"q1": 1.0, "q2": 0.0}
    assert measured.means["BioASQ documents P"] == 0.5
    assert measured.means["BioASQ documents GMAP"] == pytest.approx(math.sqrt(1.00001 * 0.00001))


def test_lists_are_measured_by_text_without_offsets(tmp_path: Path) -> None:
    snippets = [{"text": "Urate causes gout.", "document": URL + "1"}, {"text": "It hurts.", "document": None}]
    lines = [{"id": "q1", "question": "Gout?", "snippets": snippets, "documents": [URL + "1"]}]
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    _, gold, passages = read_bioasq(path)
    assert not gold.has_offsets
    assert "no offsets" in gold.method
    extra = Passage("x", "It hurts a lot.", metadata={"pmid": 9})
    known = {passage.id: passage for passage in [*passages, extra]}
    measured = measure_bioasq({"q1": [passages[1].id, "x", "unknown"]}, gold, known.get, ["q1"])
    # Letters and digits: "ithurts" (7, gold) and "ithurtsalot" (11, contains it): 7 of 11 after merging.
    assert measured.means["BioASQ snippets P"] == pytest.approx(7 / 11)
    assert measured.means["BioASQ snippets R"] == pytest.approx(7 / (7 + 15))


def test_judgements_by_text_keep_what_the_collection_lacks(tmp_path: Path) -> None:
    questions: list[dict[str, object]] = [
        {"id": "q1", "body": "?", "snippets": [_snippet("Urate causes gout.", "1", 0), _snippet("Lost.", "1", 40)]},
        {"id": "q2", "body": "!", "snippets": []},
    ]
    _, gold, _ = read_bioasq(_write(tmp_path, questions))
    collection = [Passage("mine", "urate causes GOUT"), Passage("other", "Something else.")]
    qrels, missing = qrels_by_text(gold, collection)
    assert missing == 1
    assert set(qrels) == {"q1"}
    assert qrels["q1"] == {"mine": 1, "missing:lost": 1}


def test_files_are_read_together(tmp_path: Path) -> None:
    """What both files hold is there once; snippets whose ASCII letters are equal get ids of their own."""
    alpha, beta = _snippet("TNF-α is raised.", "1", 0), _snippet("TNF-β is raised.", "2", 0)
    shared: dict[str, object] = {"id": "q1", "body": "TNF?", "snippets": [alpha]}
    (tmp_path / "second").mkdir()
    queries, gold, passages = read_bioasq(
        _write(tmp_path, [shared]),
        _write(tmp_path / "second", [{"id": "q2", "body": "Which?", "snippets": [beta, alpha]}, shared]),
    )
    assert [query.id for query in queries] == ["q1", "q2"]
    assert [passage.text for passage in passages] == ["TNF-α is raised.", "TNF-β is raised."]
    assert len({passage.id for passage in passages}) == 2
    assert gold.documents == {"q1": ["1"], "q2": ["2", "1"]}
    assert [len(snippets) for snippets in gold.snippets.values()] == [1, 2]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"id": "q", "body": "?", "snippets": []}, "No question has gold snippets"),
        ({"id": "q", "body": "?", "snippets": "text"}, "'snippets' must be a list"),
        ({"id": "q", "body": "?", "snippets": [{"document": "1"}]}, "No text"),
        (
            {"id": "q", "body": "?", "snippets": [_snippet("A.", "1", 0)], "documents": "1"},
            "'documents' must be a list",
        ),
    ],
)
def test_malformed_gold_is_named(tmp_path: Path, question: dict[str, object], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_bioasq(_write(tmp_path, [question]))


@pytest.mark.data
def test_judgements_by_text_are_those_of_the_data(data_dir: Path) -> None:
    from biorerank_plugins.readers import read_passages, read_qrels

    folder = data_dir / "bioasq"
    _, gold, _ = read_bioasq(folder / "dev.jsonl.gz")
    qrels, missing = qrels_by_text(gold, read_passages(folder / "corpus.jsonl.gz"))
    assert missing == 0
    assert qrels == read_qrels(folder / "qrels.dev.tsv")
