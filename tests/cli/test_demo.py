"""``biorerank demo``: both lists side by side, the marks, the moves and the measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import Result

from biorerank_plugins import demo
from biorerank_plugins.cli.demo_view import Shown, render
from biorerank_plugins.passages import Passage, RankedPassage, Ranking
from biorerank_plugins.readers import find_beir

QUESTIONS = 15  # of 60
Run = Callable[..., Result]
ErrorLine = Callable[..., str]


def _shown() -> Shown:
    titles = ["A near miss with a title that goes on", "The answer", "Half an answer", "Something else"]
    order = [1, 2, 3, 0]  # the reranker moves the near miss from the first place to the last
    ranked = tuple(
        RankedPassage(
            passage=Passage(f"d{index}", "Text of this passage.", titles[index], {"pmid": f"10{index}"}),
            input_index=index,
            rank=rank,
            logit=1.0 - rank,
            score=1 - rank / 10,
            probability=[0.88, 0.72, 0.5, 0.27][rank - 1],
            retrieval_score=0.9 - index / 10,
        )
        for rank, index in enumerate(order, start=1)
    )
    return Shown(Ranking("What is the answer?", ranked), {"d1": 2, "d2": 1}, (0.5, 1.0))


def _lines(width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(_shown()))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_two_lists_stand_side_by_side_at_every_width(width: int) -> None:
    lines = _lines(width)
    assert all(len(line) <= width for line in lines)
    head = next(number for number, line in enumerate(lines) if "First stage" in line)
    rows = [line.split() for line in lines[head + 2 : head + 6]]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert "↑1" in rows[0] and "●" in rows[0]
    assert rows[1].count("●") == 1 and rows[1].count("○") == 1 and "↑1" in rows[1]
    assert "↓3" in rows[3]
    assert any("0.50 → 1.00" in line for line in lines)
    assert any("[PMID 101]" in line for line in lines)


def test_probabilities_fall_at_every_width() -> None:
    for width in (60, 80, 120):
        rows = [line.split() for line in _lines(width) if line.strip()[:1].isdigit()]
        shown = [int(cell) for row in rows for cell in row if cell in ("88", "72", "50", "27")]
        assert shown == [88, 72, 50, 27]


def test_sample_questions_and_measures_over_all(biorerank: Run, collection: Path, no_network: None) -> None:
    result = biorerank("demo", "--collection", collection, "--queries-shown", "2")
    assert result.exit_code == 0, result.output
    questions = ("does p53 suppress tumours?", "what lowers glucose?", "which drug inhibits")
    assert sum(question in result.stdout for question in questions) == 2
    assert "All 3 questions" in result.stdout
    assert result.stderr.startswith("Loading two small models")
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_a_question_of_ones_own_is_answered_instead(biorerank: Run, collection: Path) -> None:
    result = biorerank("demo", "  who treats heart failure? ", "--collection", collection)
    assert result.exit_code == 0, result.output
    assert "who treats heart failure?" in result.stdout
    assert "p53 suppress" not in result.stdout.splitlines()[2]
    assert "nDCG" not in result.stdout


def test_one_of_the_demos_questions_keeps_its_judgements(biorerank: Run, collection: Path) -> None:
    result = biorerank("demo", "What lowers GLUCOSE?", "--collection", collection)
    assert "●" in result.stdout.replace("● answers", "")
    assert "nDCG@10 of this question" in result.stdout


def test_json_holds_both_lists_and_the_measures(biorerank: Run, collection: Path) -> None:
    document = json.loads(biorerank("demo", "--collection", collection, "--json").stdout)
    assert document["passages"] == 6
    first = document["questions"][0]
    assert [line["rank"] for line in first["first_stage"]] == [1, 2, 3, 4, 5]
    assert {line["grade"] for line in first["reranked"]} <= {0, 2}
    assert first["ndcg@10"].keys() == {"first_stage", "reranked"}
    assert document["evaluation"]["queries"] == 3


def test_the_measures_are_those_of_evaluate(biorerank: Run, collection: Path) -> None:
    demo = json.loads(biorerank("demo", "--collection", collection, "--json", "-n", "0").stdout)
    evaluated = json.loads(biorerank("evaluate", "--beir", collection, "--json").stdout)
    assert demo["questions"] == []
    assert demo["evaluation"]["measures"]["nDCG@10"] == evaluated["measures"]["nDCG@10"]


def test_bad_input_is_one_line(
    biorerank: Run, run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    assert "no corpus.jsonl" in error_line(biorerank("demo", "--collection", tmp_path))
    assert "biorerank-encoder-minilm-l6" in error_line(run("demo", "--collection", collection, "--model", "unknown"))
    assert "QUESTION is empty" in error_line(biorerank("demo", " "), code=2)
    assert "--queries-shown" in error_line(biorerank("demo", "-n", "-1"), code=2)


def test_the_demo_collection_comes_with_the_package(biorerank: Run) -> None:
    document = json.loads(biorerank("demo", "Which drugs relieve angina?", "--json").stdout)
    assert document["passages"] >= 250
    assert len(document["questions"][0]["reranked"]) == 5


@pytest.fixture
def part_of_the_demo(tmp_path: Path) -> Path:
    """Some of the demo's questions, among which one gains, one stays and one loses, with every other passage."""
    parts = find_beir(Path(demo.__path__[0]))
    queries = parts.queries.read_text("utf-8").splitlines()[:QUESTIONS]
    ids = {json.loads(line)["_id"] for line in queries}
    head, *judgements = parts.qrels.read_text("utf-8").splitlines()
    judgements = [line for line in judgements if line.split("\t")[0] in ids]
    judged = {line.split("\t")[1] for line in judgements}
    passages = parts.corpus.read_text("utf-8").splitlines()
    kept = [line for n, line in enumerate(passages) if n % 2 == 0 or json.loads(line)["_id"] in judged]
    (tmp_path / "qrels").mkdir()
    for name, lines in (("corpus.jsonl", kept), ("queries.jsonl", queries), ("qrels/test.tsv", [head, *judgements])):
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def test_the_questions_that_are_shown_are_chosen_by_what_was_measured(biorerank: Run, part_of_the_demo: Path) -> None:
    document = json.loads(biorerank("demo", "--collection", part_of_the_demo, "--json").stdout)
    gains = [one["ndcg@10"]["reranked"] - one["ndcg@10"]["first_stage"] for one in document["questions"]]
    assert len(gains) == 3 and gains[0] > 0 == gains[1] > gains[2]
    systems = document["systems"]["nDCG@10"]
    assert list(systems) == ["vector search", "first stage", "reranked"]
    assert all(one["low"] <= one["mean"] <= one["high"] for one in systems.values())
    measured = document["evaluation"]["measures"]["nDCG@10"]
    assert systems["first stage"]["mean"] == pytest.approx(measured["baseline"])
    assert systems["reranked"]["mean"] == pytest.approx(measured["value"])
