"""What people do with files of other systems: runs, submissions, collections of abstracts, tables with own names."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.files import excel
from typer.testing import Result

from biorerank_plugins import BioReranker, Candidate, PassageIndex, TwoStageSearch
from biorerank_plugins.evaluation import read_run
from biorerank_plugins.readers import read_passages, read_queries

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

RUN = "q1 Q0 p2 1 9.5 x\nq1 Q0 p1 2 9.5 x\nq1 Q0 lost 3 3 x\nq1 Q0 p4 4 2 x\nq2 Q0 p3 1 1 x\nnobody Q0 p1 1 1 x\n"


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    path = tmp_path / "in.run.gz"
    path.write_bytes(gzip.compress(RUN.encode()))
    return path


@pytest.mark.parametrize("source", ["corpus", "index"])
def test_a_run_of_another_system_is_reranked_without_judgements(
    biorerank: Run,
    collection: Path,
    index_folder: Path,
    a_run: Path,
    tmp_path: Path,
    tiny_cross_encoder_dir: Path,
    source: str,
) -> None:
    passages = ("--corpus", collection / "corpus.jsonl") if source == "corpus" else ("--index", index_folder)
    out = tmp_path / "out.run.gz"
    result = biorerank(
        "rerank", "--run", a_run, "--queries", collection / "queries.jsonl", *passages, "--out", out, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"file": str(out), "queries": 2, "passages": 5, "not_found": 1}
    assert "1 of 5 passages of the run are not in the collection" in " ".join(result.stderr.split())
    assert "1 of 3 lists of the run belong to none of the questions" in " ".join(result.stderr.split())
    found = read_run(out)
    assert found.keys() == {"q1", "q2"}
    known = {one.id: one for one in read_passages(collection / "corpus.jsonl")}
    with BioReranker(str(tiny_cross_encoder_dir)) as reranker:
        given = [Candidate(known["p2"], 9.5), Candidate(known["p1"], 9.5), Candidate(known["p4"], 2.0)]
        expected = [one.passage.id for one in reranker.rank("does p53 suppress tumours?", given)]
    assert sorted(found["q1"], key=lambda id_: -found["q1"][id_]) == [*expected, "lost"]


def test_what_stands_behind_the_candidates_keeps_its_order(
    biorerank: Run, collection: Path, a_run: Path, tmp_path: Path
) -> None:
    options = ("--queries", collection / "queries.jsonl", "--corpus", collection / "corpus.jsonl")
    result = biorerank(
        "rerank", "--run", a_run, *options, "--out", tmp_path / "out.run", "--candidates", "1", "--fusion", "0.5"
    )
    assert result.exit_code == 0, result.output
    found = read_run(tmp_path / "out.run")["q1"]
    assert sorted(found, key=lambda id_: -found[id_]) == ["p2", "p1", "lost", "p4"]


def test_what_a_run_cannot_be_reranked_with_is_one_line(
    biorerank: Run, error_line: ErrorLine, collection: Path, a_run: Path, tmp_path: Path
) -> None:
    queries, corpus = ("--queries", collection / "queries.jsonl"), ("--corpus", collection / "corpus.jsonl")
    out = ("--out", tmp_path / "out.run")
    for arguments in ((), queries, (*queries, *out), (*queries, *corpus), ("question", *queries, *corpus, *out)):
        assert "--run needs --queries" in error_line(biorerank("rerank", "--run", a_run, *arguments), code=2)
    every = ("--run", a_run, *queries, *corpus)
    assert "no --top-k" in error_line(biorerank("rerank", *every, *out, "--top-k", "3"), code=2)
    assert "cannot be written" in error_line(biorerank("rerank", *every, "--out", tmp_path / "no" / "out.run"))
    (tmp_path / "other.tsv").write_text("x\tWhy?\n")
    (tmp_path / "other.jsonl").write_text('{"id": "x", "text": "y"}\n')
    said = error_line(biorerank("rerank", "--run", a_run, "--queries", tmp_path / "other.tsv", *corpus, *out))
    assert "has none of the questions" in said and "q1" in said
    said = error_line(biorerank("rerank", "--run", a_run, *queries, "--corpus", tmp_path / "other.jsonl", *out))
    assert "None of the passages" in said and "p1" in said


def test_a_search_of_many_questions_writes_a_run(
    biorerank: Run,
    error_line: ErrorLine,
    collection: Path,
    index_folder: Path,
    tmp_path: Path,
    tiny_cross_encoder_dir: Path,
) -> None:
    queries = ("--queries", collection / "queries.jsonl", "--k", "3")
    for name, options in (("reranked.run", ()), ("first.run.gz", ("--no-rerank",))):
        result = biorerank("search", index_folder, *queries, *options, "--run-out", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, ""), result.output
    with PassageIndex.load(index_folder) as index, BioReranker(str(tiny_cross_encoder_dir)) as reranker:
        both = TwoStageSearch(index, reranker)
        for query in read_queries(collection / "queries.jsonl"):
            for name, found in (
                ("reranked.run", [one.passage.id for one in both.search(query.text, top_k=3)]),
                ("first.run.gz", [one.passage.id for one in index.search(query.text, 3, first_stage="hybrid")]),
            ):
                scores = read_run(tmp_path / name)[query.id]
                assert sorted(scores, key=lambda id_: -scores[id_]) == found
    refused = biorerank("search", index_folder, *queries, "--run-out", tmp_path / "no" / "a.run")
    assert "cannot be written" in error_line(refused)
    refused = biorerank("search", index_folder, *queries, "--run-out", tmp_path / "a.run", "--abstain")
    assert "--run-out" in error_line(refused, code=2)


URL = "http://www.ncbi.nlm.nih.gov/pubmed/"


def _snippet(pmid: int, begin: int, end: int, text: str) -> dict[str, Any]:
    return {
        "document": f"{URL}{pmid}",
        "text": text,
        "beginSection": "abstract",
        "endSection": "abstract",
        "offsetInBeginSection": begin,
        "offsetInEndSection": end,
    }


GOLD = [
    {
        "id": "a",
        "body": "What lowers glucose?",
        "documents": [f"{URL}103", f"{URL}104"],
        "snippets": [_snippet(103, 0, 9, "metformin lowers glucose.")],
    },
    {"id": "b", "body": "What inhibits platelets?", "documents": [f"{URL}102"], "snippets": []},
]


def _questions(path: Path, questions: list[dict[str, Any]]) -> Path:
    data = json.dumps({"questions": questions}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_a_submission_is_scored_against_golden_files(run: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    gold = _questions(tmp_path / "golden.json.gz", GOLD)
    found = [_snippet(103, 5, 14, "x"), _snippet(7, 0, 4, "y")]
    handed_in = [{"id": "a", "documents": [f"{URL}7", "https://pubmed.ncbi.nlm.nih.gov/103/"], "snippets": found}]
    submission = _questions(tmp_path / "submission.json", handed_in)
    result = run("evaluate", "--bioasq", gold, "--submission", submission, "--json")
    assert result.exit_code == 0, result.output
    assert "1 of 2 questions are not answered, such as b" in " ".join(result.stderr.split())
    document = json.loads(result.stdout)
    # Documents of a: the second of two is one of two gold ones. Snippets of a: 5 of 15 characters are 5 of the 10 gold.
    assert document["per_query"]["documents P"] == {"a": 0.5, "b": 0.0}
    assert document["per_query"]["documents AP"] == {"a": 0.25, "b": 0.0}
    assert document["means"]["documents R"] == 0.25
    assert document["per_query"]["snippets P"] == {"a": pytest.approx(5 / 15)}
    assert document["per_query"]["snippets R"] == {"a": 0.5}
    table = run("evaluate", "--bioasq", gold, "--submission", submission).stdout.splitlines()
    assert table[:2] == ["measure\tvalue", "documents P\t0.2500"]
    by_text = [{"id": "a", "snippets": [{"document": f"{URL}103", "text": "Metformin lowers glucose"}]}]
    result = run("evaluate", "--bioasq", gold, "--submission", _questions(tmp_path / "s.json", by_text), "--json")
    assert json.loads(result.stdout)["means"]["snippets F1"] == 1.0
    for arguments in (["--submission", submission], ["--submission", submission, "--bioasq", gold, "--run", "a=b"]):
        assert "against --bioasq GOLD" in error_line(run("evaluate", *arguments), code=2)
    other = _questions(tmp_path / "other.json", [{"id": "z", "documents": [f"{URL}1"]}])
    assert "no question in common" in error_line(run("evaluate", "--bioasq", gold, "--submission", other))
    empty = _questions(tmp_path / "empty.json", [{"id": "a", "body": "?"}])
    assert "nothing to score" in error_line(run("evaluate", "--bioasq", gold, "--submission", empty))


def test_a_golden_set_may_be_several_files(run: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    """Question a stands in both files, its documents in another order: it counts once."""
    again = {**GOLD[0], "documents": [f"{URL}104", "https://pubmed.ncbi.nlm.nih.gov/103/"]}
    first = _questions(tmp_path / "batch1.json.gz", [GOLD[0]])
    second = _questions(tmp_path / "batch2.json", [GOLD[1], again])
    handed_in = [
        {"id": "a", "documents": [f"{URL}7", f"{URL}103"], "snippets": [_snippet(103, 5, 14, "x")]},
        {"id": "b", "documents": [f"{URL}102", f"{URL}8", f"{URL}9", f"{URL}10"]},
    ]
    submission = ["--submission", _questions(tmp_path / "submission.json", handed_in)]
    result = run("evaluate", "--bioasq", first, "--bioasq", second, *submission, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    # Of a one of two documents is right, the second; of b one of four, the first. Snippets: 5 of 10 characters are.
    assert document["questions"] == 2
    assert document["per_query"]["documents P"] == {"a": 1 / 2, "b": 1 / 4}
    assert document["per_query"]["documents AP"] == {"a": 1 / 4, "b": 1.0}
    assert document["per_query"]["snippets P"] == {"a": 5 / 10}
    means = {"documents P": 0.375, "documents R": 0.75, "documents F1": (0.5 + 0.4) / 2, "documents AP": 0.625}
    means |= {"snippets P": 0.5, "snippets R": 0.5, "snippets F1": 0.5}
    means |= {"documents GMAP": math.sqrt((0.25 + 1e-5) * (1 + 1e-5))}
    assert {name: document["means"][name] for name in means} == pytest.approx(means)
    whole = _questions(tmp_path / "whole.json", GOLD)
    assert json.loads(run("evaluate", "--bioasq", whole, *submission, "--json").stdout) == document
    for change in ({"documents": [f"{URL}103"]}, {"snippets": [_snippet(103, 0, 8, "metformin lowers glucose.")]}):
        other = _questions(tmp_path / "other.json", [GOLD[1], {**GOLD[0], **change}])
        line = error_line(run("evaluate", "--bioasq", first, "--bioasq", other, *submission))
        assert "other.json: The documents or snippets of question a differ from those in" in line
        assert "batch1.json.gz" in line


def test_a_collection_of_abstracts_is_judged_by_pmid(biorerank: Run, index_folder: Path, tmp_path: Path) -> None:
    """The abstracts have none of the snippets' texts, so that judging by texts gives 0 for all."""
    gold = [{**one, "snippets": [_snippet(103, 0, 9, "a part of it")]} for one in GOLD]
    result = biorerank("evaluate", "--index", index_folder, "--bioasq", _questions(tmp_path / "g.json", gold), "--json")
    assert result.exit_code == 0, result.output
    assert "by its PMID" in " ".join(result.stderr.split())
    means = next(iter(json.loads(result.stdout)["systems"].values()))["means"]
    assert means["BioASQ documents R"] == 1.0
    assert means["nDCG@10"] > 0.3


def test_an_evaluation_can_leave_out_what_is_malformed(
    biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / name).write_text((collection / name).read_text(encoding="utf-8") + '{"id": \n', encoding="utf-8")
    options = (
        "--corpus", tmp_path / "corpus.jsonl", "--queries", tmp_path / "queries.jsonl",
        "--qrels", collection / "qrels" / "test.tsv",
    )  # fmt: skip
    assert "queries.jsonl:4" in error_line(biorerank("evaluate", *options))
    result = biorerank("evaluate", *options, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("1 malformed line or file was left out") == 2


def test_an_index_of_a_table_with_names_of_its_own_and_of_a_mixed_folder(
    biorerank: Run, error_line: ErrorLine, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "table.xlsx").write_bytes(excel(("S", [["Nr", "Summary"], [1, "Müller takes metformin."]])))
    (folder / "read.me").write_text("x")
    (folder / "script.py").write_text("x")
    out = ("--out", tmp_path / "index")
    said = error_line(biorerank("index", folder, *out))
    assert "the columns are: Nr, Summary" in said and "--text-key" in said
    result = biorerank("index", folder, *out, "--id-key", "nr", "--text-key", "summary")
    assert result.exit_code == 0, result.output
    assert "left out: 1 .me, 1 .py" in " ".join(result.stderr.split())
    with PassageIndex.load(tmp_path / "index") as index:
        assert [(one.id, one.text) for one in index.passages()] == [("1", "Müller takes metformin.")]
    (folder / "table.xlsx").unlink()
    (folder / "table.csv").write_bytes("Nr;Summary\n2;Müller\n".encode("cp1252"))
    keys = ("--id-key", "Nr", "--text-key", "Summary", "--add")
    assert "--encoding windows-1252" in error_line(biorerank("index", folder, *out, *keys))
    assert "no encoding of text" in error_line(biorerank("index", folder, *out, *keys, "--encoding", "klingon"))
    result = biorerank("index", folder, *out, *keys, "--encoding", "windows-1252")
    assert result.exit_code == 0, result.output
    with PassageIndex.load(tmp_path / "index") as index:
        assert [one.text for one in index.passages()] == ["Müller takes metformin.", "Müller"]
