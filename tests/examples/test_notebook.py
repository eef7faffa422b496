"""The notebook, run from top to bottom by the Python that runs the tests."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support import DEMO

from biorerank_plugins import BioReranker, PassageIndex, models
from biorerank_plugins.evaluation import evaluate_systems
from biorerank_plugins.readers import read_passages, read_qrels, read_queries

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "measure_improvement.ipynb"
QUESTIONS, CANDIDATES = 6, 20  # the notebook's own are 60 and 100
FEWER = f"""
queries = queries[:{QUESTIONS}]
qrels = {{query.id: qrels[query.id] for query in queries}}
passages = [p for n, p in enumerate(passages) if n % 8 == 0 or any(p.id in own for own in qrels.values())]
"""


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


@pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)
@pytest.mark.filterwarnings("default")  # of the notebook's machinery
def test_it_measures_what_the_evaluation_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for needed in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(needed)
    import nbformat
    from nbclient import NotebookClient

    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": arguments, "display_name": "tests", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings, reading = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    assert "CANDIDATES = 100\n" in f"{settings.source}\n" and "queries, gold, passages" in reading.source
    settings.source = settings.source.replace("CANDIDATES = 100", f"CANDIDATES = {CANDIDATES}")
    reading.source += FEWER
    notebook.cells.append(nbformat.v4.new_code_cell("import json; print(json.dumps(RESULTS))"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
    found = json.loads(notebook.cells[-1].outputs[-1].text)
    pictures = [
        output for cell in notebook.cells if cell.cell_type == "code"
        for output in cell.outputs if "image/png" in output.get("data", {})
    ]  # fmt: skip
    assert len(pictures) == 3

    demo: dict[str, Any] = {
        "passages": list(read_passages(DEMO / "corpus.jsonl")),
        "queries": read_queries(DEMO / "queries.jsonl"),
        "qrels": read_qrels(DEMO / "qrels" / "test.tsv"),
    }
    exec(FEWER, demo)
    with PassageIndex.build(demo["passages"]) as index, BioReranker() as reranker:
        report = evaluate_systems(
            index, demo["queries"], demo["qrels"],
            rerankers=reranker, candidates=CANDIDATES, measures=("nDCG@10",),
        )  # fmt: skip
    before, after = (report.systems[name].measured.means for name in ("hybrid", "hybrid+reranker+fusion"))
    assert found["questions"] == QUESTIONS
    assert found["first_stage"] == pytest.approx(before["nDCG@10"], abs=0.005)
    assert found["reranked"] == pytest.approx(after["nDCG@10"], abs=0.005)
    assert found["delta"] == pytest.approx(found["reranked"] - found["first_stage"], abs=1e-6)
    assert 0 <= found["p_value"] <= 1
