"""Options about articles and BioASQ submissions, and doubts about judgements, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch
from biorerank_plugins.evaluation.bioasq.export import bioasq_submission
from biorerank_plugins.evaluation.bioasq.gold import read_gold
from biorerank_plugins.readers import read_queries

Run = Callable[..., Result]
ErrorLine = Callable[..., str]
ARTICLES = [
    {"_id": "a", "text": "aspirin inhibits platelets.", "metadata": {"year": 1990, "publication_types": ["Review"]}},
    {"_id": "b", "text": "metformin lowers glucose.", "metadata": {"is_retracted": True}},
    {"_id": "c", "text": "insulin binds the receptor.", "metadata": {"year": 2020}},
]
TESTSET = {
    "questions": [
        {"id": "55031181e9bde69634000014", "type": "yesno", "body": "does p53 suppress tumours?"},
        {"id": "55031181e9bde69634000015", "type": "factoid", "body": "what lowers glucose?"},
    ]
}


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    path = tmp_path / "articles.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in ARTICLES))
    return path


@pytest.fixture
def testset(tmp_path: Path) -> Path:
    path = tmp_path / "testset.json"
    path.write_text(json.dumps(TESTSET))
    return path


# Articles


def test_retracted_articles_are_marked_or_left_out(biorerank: Run, articles: Path):
    marked = biorerank("rerank", "what lowers glucose?", articles, "--retracted", "flag")
    rows = {line.split("\t")[3]: line.split("\t")[4] for line in marked.stdout.splitlines()[1:]}
    assert rows["b"] == "[retracted] metformin lowers glucose."
    assert rows["a"] == "aspirin inhibits platelets."
    left_out = biorerank("rerank", "what lowers glucose?", articles, "--retracted", "drop")
    assert "metformin" not in left_out.stdout
    assert "Retracted, so left out: b." in left_out.stderr
    document = json.loads(biorerank("rerank", "q", articles, "--retracted", "drop", "--json").stdout)
    assert (document["dropped"], document["drop_reasons"]) == (["b"], ["retracted"])


def test_boosts_move_passages_and_are_shown(biorerank: Run, articles: Path):
    options = ("rerank", "what lowers glucose?", articles)
    boosted = biorerank(*options, "--boost", "review=100", "--boost", "Meta-Analysis=3", "--recency", "5")
    header, first, *_ = [line.split("\t") for line in boosted.stdout.splitlines()]
    assert header[:2] == ["rank", "boost"]
    assert first[4] == "a" and first[1].startswith("+100.")
    plain = {line["id"]: line for line in json.loads(biorerank(*options, "--json").stdout)["passages"]}
    again = json.loads(biorerank(*options, "--boost", "review=100", "--json").stdout)["passages"]
    assert [line["boost"] for line in again] == [100.0, 0.0, 0.0]
    assert all(line["logit"] == pytest.approx(plain[line["id"]]["logit"], abs=1e-5) for line in again)


def test_search_takes_the_same_options(biorerank: Run, index_folder: Path):
    result = biorerank("search", index_folder, "glucose", "--recency", "1", "--retracted", "flag", "--json")
    lines = json.loads(result.stdout)["passages"]
    assert all(line["boost"] >= 0 and line["retracted"] is False for line in lines)
    assert len({line["boost"] for line in lines}) > 1


def test_ask_says_which_sources_are_retracted(
    run: Run, articles: Path, tmp_path: Path, tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path
):
    folder = tmp_path / "index"
    assert run("index", articles, "--out", folder, "--encoder", tiny_encoder_dir).exit_code == 0
    options = ("ask", folder, "what lowers glucose?", "--model", tiny_cross_encoder_dir, "--sentences", 3)
    assert "[retracted]. b." in run(*options).stdout
    assert "metformin" not in run(*options, "--retracted", "drop").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--boost", "review"], "expected TYPE=WEIGHT"),
        (["--boost", "review=much"], "expected TYPE=WEIGHT"),
        (["--boost", "review=nan"], "--boost"),
        (["--boost", "=1"], "is no name"),
        (["--boost", "a=1", "--boost", "a=2"], "given twice"),
        (["--boost", "a-b=1", "--boost", "a b=2"], "same kind"),
        (["--recency", "0"], "--recency must be a number above 0"),
        (["--recency", "inf"], "--recency"),
        (["--retracted", "remove"], "--retracted"),
    ],
)
def test_wrong_options_are_one_line(biorerank: Run, error_line: ErrorLine, articles: Path, options, said):
    assert said in error_line(biorerank("rerank", "q", articles, *options), code=2)


# BioASQ


def test_a_test_set_becomes_a_submission(
    biorerank: Run, index_folder: Path, testset: Path, tmp_path: Path, tiny_cross_encoder_dir: Path
):
    target = tmp_path / "submission.json"
    result = biorerank("search", index_folder, "--queries", testset, "--bioasq", target, "--k", "4", "--json")
    assert result.exit_code == 0, result.output
    written = json.loads(target.read_text(encoding="utf-8"))
    with PassageIndex.load(index_folder) as index, BioReranker(tiny_cross_encoder_dir) as reranker:
        questions = read_queries(testset)
        rankings = TwoStageSearch(index, reranker).search_many([q.text for q in questions], top_k=4, evidence=10)
        types = {question["id"]: question["type"] for question in TESTSET["questions"]}
        expected = bioasq_submission(zip(questions, rankings, strict=True), score=reranker.score, types=types)
    assert written == expected.to_dict()
    assert {question["type"] for question in written["questions"]} == {"yesno", "factoid"}
    counts = {name: sum(len(q[name]) for q in written["questions"]) for name in ("documents", "snippets")}
    left_out = {"without_pmid": len(expected.without_pmid), "out_of_place": 0}
    assert json.loads(result.stdout) == {"file": str(target), "questions": 2, **counts, **left_out}
    assert set(read_gold(target).documents) == set(types)
    assert ("have no PMID and were left out" in result.stderr) == bool(expected.without_pmid)


@pytest.mark.parametrize("option", ["--no-rerank", "--abstain"])
def test_a_submission_needs_sentences_for_all(
    biorerank: Run, error_line: ErrorLine, index_folder: Path, testset: Path, tmp_path: Path, option: str
):
    options = ("search", index_folder, "--queries", testset, "--bioasq", tmp_path / "s.json", option)
    assert "--bioasq needs the reranker" in error_line(biorerank(*options), code=2)


def test_a_submission_that_cannot_be_written_is_told_before_the_work(
    biorerank: Run, error_line: ErrorLine, index_folder: Path, testset: Path, tmp_path: Path
):
    options = ("search", index_folder, "--queries", testset, "--bioasq")
    assert "cannot be written" in error_line(biorerank(*options, tmp_path / "no" / "s.json"))
    assert "cannot be written" in error_line(biorerank(*options, tmp_path))


# Judgements


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q1\tp1\t1\nq1\tlost\t1\n", "1 of 2 relevant passages are not in the collection, such as lost"),
        ("q1\tp1\t0\nq2\tp2\t0\n", "No passage is judged relevant: all 2 grades are 0 or less"),
        ("q1\tp1\t1\nq2\tp2\t0\n", "1 of 2 judged questions have no passage with a grade above 0, such as q2"),
        ("q1\tp1\t1\nq2\tp2\t1\n", None),
    ],
)
def test_judgements_that_do_not_fit_are_warned_about(
    biorerank: Run,
    run: Run,
    collection: Path,
    tmp_path: Path,
    tiny_encoder_dir: Path,
    tiny_cross_encoder_dir: Path,
    qrels,
    said,
):
    (tmp_path / "qrels.tsv").write_text(qrels)
    options = ("--beir", collection, "--qrels", tmp_path / "qrels.tsv")
    evaluated = biorerank("evaluate", *options)
    assert evaluated.exit_code == 0
    fitted = run("calibrate", tiny_cross_encoder_dir, *options, "--encoder", tiny_encoder_dir, "--dry-run")
    for result in (evaluated, fitted):
        said_so = "Warning: " in result.stderr and ("relevant" in result.stderr or "above 0" in result.stderr)
        assert (said in result.stderr) if said else not said_so
