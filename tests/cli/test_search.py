"""``biorerank search``: what a saved index answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

QUESTION = "what lowers glucose?"


def _cells(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_results_are_those_of_the_library(
    biorerank: Run, index_folder: Path, tiny_cross_encoder_dir: Path, no_network: None
) -> None:
    document = json.loads(biorerank("search", index_folder, QUESTION, "--k", "4", "--json").stdout)
    with PassageIndex.load(index_folder) as index, BioReranker(str(tiny_cross_encoder_dir)) as reranker:
        expected = TwoStageSearch(index, reranker).search(QUESTION, top_k=4).to_dict()
    for got in (document, expected):
        got.pop("timings")
    assert document == {"first_stage": "hybrid", **expected}


@pytest.mark.parametrize("options", [["--effort", "auto"], ["--dtype", "int8"]])
def test_effort_and_precision_are_the_rerankers(
    biorerank: Run, index_folder: Path, tiny_cross_encoder_dir: Path, options: list[str]
) -> None:
    document = json.loads(biorerank("search", index_folder, QUESTION, "--k", "4", "--json", *options).stdout)
    given = {"dtype": "int8"} if "int8" in options else {}
    with PassageIndex.load(index_folder) as index, BioReranker(str(tiny_cross_encoder_dir), **given) as reranker:
        expected = TwoStageSearch(index, reranker).search(QUESTION, top_k=4)
    assert [line["id"] for line in document["passages"]] == [line.passage.id for line in expected]
    assert [line["logit"] for line in document["passages"]] == pytest.approx([line.logit for line in expected])


def test_a_pipe_gets_tabs_and_whole_passages(biorerank: Run, index_folder: Path) -> None:
    rows = _cells(biorerank("search", index_folder, QUESTION, "--k", "3"))
    assert rows[0] == ["rank", "score", "moved", "id", "passage"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert all(row[2] == "=" or row[2][0] in "↑↓" for row in rows[1:])


def test_the_first_stage_alone(biorerank: Run, index_folder: Path) -> None:
    with PassageIndex.load(index_folder) as index:
        found = index.search(QUESTION, 2)
    rows = _cells(biorerank("search", index_folder, QUESTION, "--k", "2", "--no-rerank"))
    assert [row[2] for row in rows[1:]] == [candidate.passage.id for candidate in found]
    document = json.loads(biorerank("search", index_folder, QUESTION, "--k", "2", "--no-rerank", "--json").stdout)
    assert [line["score"] for line in document["passages"]] == [candidate.score for candidate in found]


@pytest.mark.parametrize("first_stage", ["hybrid", "dense", "lexical"])
def test_the_first_stage_can_be_chosen(biorerank: Run, index_folder: Path, first_stage: str) -> None:
    options = (index_folder, QUESTION, "--first-stage", first_stage)
    with PassageIndex.load(index_folder) as index:
        found = index.search(QUESTION, first_stage=first_stage)  # type: ignore[arg-type]
    alone = biorerank("search", *options, "--no-rerank", "--json")
    document = json.loads(alone.stdout)
    assert [(line["id"], line["score"]) for line in document["passages"]] == [(c.passage.id, c.score) for c in found]
    assert document["first_stage"] == first_stage
    assert f"First stage: {first_stage}" in alone.stderr
    reranked = json.loads(biorerank("search", *options, "--json").stdout)
    assert reranked["first_stage"] == first_stage
    assert {line["id"] for line in reranked["passages"]} == {c.passage.id for c in found}


def test_an_index_without_a_lexical_part_is_searched_by_its_vectors(
    biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    built = biorerank("index", collection, "--out", tmp_path / "index", "--no-lexical", "--json")
    assert json.loads(built.stdout)["lexical"] is False
    document = json.loads(biorerank("search", tmp_path / "index", QUESTION, "--json").stdout)
    assert (document["first_stage"], len(document["passages"])) == ("dense", 6)
    for wanted in ("hybrid", "lexical"):
        said = error_line(biorerank("search", tmp_path / "index", QUESTION, "--first-stage", wanted))
        assert f"--first-stage {wanted} needs a lexical part" in said


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        (["year>=2020"], {"p4", "p5", "p6"}),
        (["year >= 2015", "year<2020"], {"p2", "p3"}),
        (["pmid=102"], {"p2"}),
        (['pmid="102"'], {"p2"}),
        (["year!=2010", "year<=2015"], {"p2"}),
        (["title=TP53"], {"p1"}),
    ],
)
def test_conditions_choose_what_may_be_found(
    biorerank: Run, index_folder: Path, conditions: list[str], ids: set[str]
) -> None:
    options = [option for condition in conditions for option in ("--filter", condition)]
    rows = _cells(biorerank("search", index_folder, QUESTION, *options))
    assert {row[3] for row in rows[1:]} == ids


def test_nothing_found_is_said_and_no_error(biorerank: Run, index_folder: Path) -> None:
    result = biorerank("search", index_folder, QUESTION, "--filter", "year=1900")
    assert result.exit_code == 0
    assert "Nothing found" in result.stderr


def test_questions_come_from_stdin(biorerank: Run, index_folder: Path) -> None:
    result = biorerank("search", index_folder, "-", "--k", "1", "--json", input=f"{QUESTION}\n\nwho binds insulin?\n")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(d["query_id"], d["query"]) for d in documents] == [("1", QUESTION), ("2", "who binds insulin?")]
    assert [len(document["passages"]) for document in documents] == [1, 1]


@pytest.mark.parametrize("options", [[], ["--no-rerank"]])
def test_questions_come_from_a_file(biorerank: Run, index_folder: Path, collection: Path, options: list[str]) -> None:
    rows = _cells(biorerank("search", index_folder, "--queries", collection / "queries.jsonl", "-k", "2", *options))
    assert rows[0][:3] == ["query", "rank", "score"]
    assert [row[0].partition(":")[0] for row in rows[1:]] == ["q1", "q1", "q2", "q2", "q3", "q3"]


def test_more_questions_than_one_batch(biorerank: Run, index_folder: Path) -> None:
    result = biorerank("search", index_folder, "-", "--k", "1", "--json", input="aspirin\n" * 20)
    assert len(result.stdout.splitlines()) == 20


def test_a_threshold_of_zero_counts(biorerank: Run, index_folder: Path) -> None:
    document = json.loads(biorerank("search", index_folder, QUESTION, "--min-score", "1.5", "--json").stdout)
    assert (len(document["passages"]), document["below_threshold"]) == (0, 6)
    assert len(_cells(biorerank("search", index_folder, QUESTION, "--min-score", "0"))) == 7


def test_bad_input_is_one_line(
    biorerank: Run, run: Run, error_line: ErrorLine, index_folder: Path, tmp_path: Path, other_encoder_dir: Path
) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert "no passage index in" in error_line(biorerank("search", tmp_path, QUESTION))
    assert "no passage index in" in error_line(biorerank("search", tmp_path / "absent", QUESTION))
    unknown = run("search", index_folder, QUESTION, "--model", "unknown")
    assert "Embedded models: biorerank-encoder-minilm" in error_line(unknown)
    assert "no model" in error_line(run("search", index_folder, QUESTION, "--model", tmp_path))
    another = biorerank("search", index_folder, QUESTION, "--encoder", other_encoder_dir)
    assert "built with another encoder" in error_line(another)
    assert "empty.txt: The file is empty" in error_line(biorerank("search", index_folder, "--queries", empty))
    assert "no questions on stdin" in error_line(biorerank("search", index_folder, "-", input="\n"))
    assert "not valid UTF-8" in error_line(biorerank("search", index_folder, "-", input=b"\xff\xfe\n"))
    assert "device" in error_line(biorerank("search", index_folder, QUESTION, "--device", "toaster"))
    assert "dtype" in error_line(biorerank("search", index_folder, QUESTION, "--dtype", "int3"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([" "], "QUERY is empty"),
        ([], "either QUERY or --queries"),
        ([QUESTION, "--queries", "file"], "either QUERY or --queries"),
        ([QUESTION, "--filter", "year"], "'year' is no condition"),
        ([QUESTION, "--filter", ">=3"], "'>=3' is no condition"),
        ([QUESTION, "--filter", "a..b=3"], "--filter 'a..b=3': 'a..b' is no field"),
        ([QUESTION, "--filter", "year>=NaN"], "not a finite number"),
        ([QUESTION, "--filter", "year>=[1]"], "compares with a list"),
        ([QUESTION, "--filter", "$near=1"], "Unknown filter combination"),
        ([QUESTION, "--filter", 'year={"a": 1}'], "compares with a dict"),
        ([QUESTION, "--filter", "year>" + "9" * 30], "64 bits"),
        ([QUESTION, "--min-score", "nan"], "Invalid value for '--min-score': nan is no finite number"),
        ([QUESTION, "--min-score", "inf"], "inf is no finite number"),
        ([QUESTION, "--fusion", "nan"], "for '--fusion'"),
        ([QUESTION, "--fusion", "inf"], "inf is no finite number"),
        (["--queries", ""], "the path is empty"),
        ([QUESTION, "--k", "0"], "Invalid value for '--k'"),
        ([QUESTION, "--first-stage", "bm25"], "Invalid value for '--first-stage'"),
        ([QUESTION, "--candidates", "-5"], "Invalid value for '--candidates'"),
    ],
)
def test_wrong_usage_is_one_line(
    biorerank: Run, error_line: ErrorLine, index_folder: Path, arguments: list[str], said: str
) -> None:
    assert said in error_line(biorerank("search", index_folder, *arguments), code=2)


def test_a_damaged_index_is_refused(biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path) -> None:
    biorerank("index", collection, "--out", tmp_path / "index")
    (damaged,) = (tmp_path / "index").rglob("vectors.faiss")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert "vectors.faiss was changed" in error_line(biorerank("search", tmp_path / "index", QUESTION))


@pytest.mark.parametrize("wrong", [("--min-score", "nan"), ("--filter", "year>="), ("--filter", "a..b=1")])
def test_options_are_judged_before_anything_is_opened(
    run: Run, error_line: ErrorLine, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    """Neither the index nor the model is there, and neither is what the error is about."""
    result = run("search", tmp_path / "absent", QUESTION, "--model", "unknown", *wrong)
    assert wrong[0] in error_line(result, code=2)


@pytest.mark.parametrize("command", ["search", "ask"])
def test_swapped_arguments_are_noticed(
    run: Run, error_line: ErrorLine, index_folder: Path, tmp_path: Path, command: str
) -> None:
    spaced = Path(shutil.copytree(index_folder, tmp_path / "my index"))
    line = error_line(run(command, QUESTION, spaced), code=2)
    assert line.endswith(f"The first argument is the index: biorerank {command} '{spaced}' '{QUESTION}'")
    assert f"biorerank {command} INDEX '{QUESTION}'" in error_line(run(command, QUESTION), code=2)


def test_a_hint_can_be_copied_where_a_path_has_spaces(run: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    absent = tmp_path / "no index"
    assert error_line(run("search", absent, QUESTION)).endswith(f"biorerank index FILES --out '{absent}'")
