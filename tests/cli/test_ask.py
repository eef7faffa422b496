"""``biorerank ask``: verbatim sentences with citations, or an exit code that says there are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
QUESTION = "what lowers glucose?"


def test_sentences_are_quoted_and_cited(run: Run, index_folder: Path, tiny_cross_encoder_dir: Path) -> None:
    options = (index_folder, QUESTION, "--model", tiny_cross_encoder_dir, "--sentences", 2)
    document = json.loads(run("ask", *options, "--json").stdout)
    texts = {c["passage"]["id"]: c["passage"]["text"] for c in document["citations"]}
    assert 1 <= len(document["quotes"]) <= 2
    for quote in document["quotes"]:
        assert texts[quote["passage"]][quote["start"] : quote["end"]] == quote["text"]
    lines = run("ask", *options).stdout.splitlines()
    assert lines[0] == document["answer"]
    assert [line.split(" ")[0] for line in lines[1:]] == [f"[{c['number']}]" for c in document["citations"]]


@pytest.mark.parametrize(("threshold", "code"), [(1.0, 3), (0.0, 0)])
def test_no_evidence_is_an_exit_code(
    run: Run, index_folder: Path, tiny_cross_encoder_dir: Path, tmp_path: Path, threshold: float, code: int
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_cross_encoder_dir, model)
    (model / "biorerank.json").write_text(json.dumps({"calibration": {"evidence_threshold": threshold}}))
    result = run("ask", index_folder, QUESTION, "--model", model)
    assert result.exit_code == code
    assert bool(result.stdout) == (code == 0)
