"""The GPU benchmark walks through all its parts on the CPU, with nothing but torch and transformers around it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import ROOT

from biorerank_plugins.scoring.packed.backend import PipelinedPackedBackend

# What a machine with a GPU and torch on it need not have.
MISSING = (
    "faiss", "bm25s", "Stemmer", "sentencex", "ir_measures", "llama_index", "haystack", "langchain_core", "typer",
    "openvino", "onnxruntime",
)  # fmt: skip


def run(tmp_path: Path, *arguments: str, before: str = "") -> tuple[int, dict[str, Any], str]:
    out = tmp_path / "gpu.json"
    code = f"""
import importlib.util, runpy, sys
missing = lambda name: name.partition(".")[0] in {MISSING!r}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if missing(name):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if missing(name) else find_spec(name, package)
{before}
sys.argv = ["gpu.py", "--smoke", "--out", {str(out)!r}, *{arguments!r}]
runpy.run_module("benchmarks.speed.gpu", run_name="__main__")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, env=environment)
    assert out.is_file(), done.stderr
    return done.returncode, json.loads(out.read_text()), done.stdout + done.stderr


def test_all_parts_on_the_cpu(tmp_path):
    status, report, output = run(tmp_path)
    assert [name for name, part in report["parts"].items() if "failed" in part] == [], output
    assert status == 0
    found = {name: part["found"] for name, part in report["parts"].items()}
    assert all(row["pairs_a_second"] > 0 for row in found["throughput"])
    assert all(0 < row["computed_share"] < row["share_of_roofline"] for row in found["throughput"])
    assert {row["tokens"] for row in found["requests"]} == {"256", "150 mix"}
    assert [row["system"].partition(":")[0] for row in found["texts"]] == ["st fp32, batch 32", "st half", "ours"]
    assert found["quality"][0]["variant"] == "padded"
    assert all(row["largest_difference"] < 0.2 for row in found["quality"][1:])
    assert all(row["again"] == 0 for row in found["neighbours"])
    assert str(ROOT) not in json.dumps(report)


def test_without_the_embedded_model_and_without_time(tmp_path):
    """The model's folder need not travel; a part that fails leaves its reason, and the others go on."""
    empty = tmp_path / "no-model"
    empty.mkdir()
    before = (
        f"from biorerank_plugins import models; from pathlib import Path; models.path = lambda _: Path({str(empty)!r})"
    )
    status, report, output = run(tmp_path, "--parts", "quality", "texts", "neighbours", before=before)
    assert status == 1
    assert "embedded reranker is not here" in report["parts"]["quality"]["failed"]
    assert report["parts"]["texts"]["found"][-1]["system"] == "ours", output
    assert report["parts"]["neighbours"]["found"], output
    status, report, _ = run(tmp_path, "--minutes", "-1")
    assert status == 1
    assert {part["failed"] for part in report["parts"].values()} == {"no time was left"}


def test_variants_are_options_that_the_backend_has():
    from benchmarks.speed.gpu_common import VARIANTS

    known = set(inspect.signature(PipelinedPackedBackend).parameters)
    assert {option for options in VARIANTS.values() for option in options} <= known
