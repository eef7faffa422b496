"""The walk of examples/own_corpus, on a few dozen passages, with the checks of its benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import DEMO
from support.programs import run_program
from support.scripts import run_script

from benchmarks.quality import own_corpus
from biorerank_plugins import models

PASSAGES = 110  # the first and the 101st get a new version, the 99th is deleted


@pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)
def test_from_pubmed_xml_and_pdfs_to_filtered_reranked_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is a program of the example, from its command line."""
    for needed in ("pypdf", "reportlab", "pyphen"):
        pytest.importorskip(needed)
    said: list[str] = []

    def step(self: own_corpus.Steps, name: str, script: str, *arguments: object) -> None:
        done = run_program(own_corpus.HERE / f"{script}.py", *arguments)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        self.seconds[name] = 0.0

    monkeypatch.setattr(own_corpus.Steps, "run", step)
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join((DEMO / "queries.jsonl").read_text("utf-8").splitlines(keepends=True)[:2]), "utf-8")
    with pytest.raises(SystemExit) as end:
        run_script(
            "quality.own_corpus", monkeypatch, DEMO / "corpus.jsonl", "--questions", questions, "--limit", PASSAGES,
            "--pdfs", 2, "--out", tmp_path / "out.json",
        )  # fmt: skip
    assert end.value.code == 0
    found = json.loads((tmp_path / "out.json").read_text())
    records = found["records"]
    assert records["right"] == records["records"] == PASSAGES
    assert records["new_versions"] >= 2
    assert records["deleted"] >= 1
    assert found["search"]["wrong"] == 0
    assert found["pdfs"]["share"] >= 0.95
    assert found["pdfs"]["titles"] == found["pdfs"]["files"]
    assert "replaced, 0 added" in said[-1]
