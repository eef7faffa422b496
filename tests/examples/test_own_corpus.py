"""The walk of examples/own_corpus, on a few dozen passages, with the checks of its benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import biorerank_plugins
from biorerank_plugins import models

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(biorerank_plugins.__file__).parent / "demo"


@pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)
def test_from_pubmed_xml_and_pdfs_to_filtered_reranked_passages(tmp_path: Path) -> None:
    for needed in ("pypdf", "reportlab", "pyphen"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "benchmarks.quality.own_corpus", DEMO / "corpus.jsonl"]
    command += ["--questions", DEMO / "queries.jsonl", "--limit", 220, "--pdfs", 2, "--out", tmp_path / "out.json"]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    records = found["records"]
    assert records["right"] == records["records"] > 200
    assert records["new_versions"] >= 2
    assert records["deleted"] >= 1
    assert found["search"]["wrong"] == 0
    assert found["pdfs"]["share"] >= 0.95
    assert found["pdfs"]["titles"] == found["pdfs"]["files"]
    assert "replaced, 0 added" in done.stdout
