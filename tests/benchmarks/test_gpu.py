"""The GPU benchmark walks through on the CPU, with nothing but torch and sentence-transformers around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import ROOT
from support.fresh import run_fresh

# What a machine with a GPU and torch on it need not have.
MISSING = (
    "faiss", "bm25s", "Stemmer", "sentencex", "ir_measures", "llama_index", "haystack", "langchain_core", "typer",
    "openvino", "onnxruntime",
)  # fmt: skip


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    out = tmp_path / "gpu.json"
    code = f"""
import importlib.util, runpy, sys
sys.path.insert(0, {str(ROOT)!r})
missing = lambda name: name.partition(".")[0] in {MISSING!r}
for name in filter(missing, list(sys.modules)):
    del sys.modules[name]
class Missing:
    def find_spec(self, name, path=None, target=None):
        if missing(name):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if missing(name) else find_spec(name, package)
sys.argv = ["gpu.py", "--out", {str(out)!r}, *{arguments!r}]
runpy.run_module("benchmarks.speed.gpu", run_name="__main__")
"""
    done = run_fresh(code)
    report = json.loads(out.read_text()) if out.is_file() else {}
    return done.returncode, report, done.stdout + done.stderr


def test_the_packed_backend_is_measured_beside_sentence_transformers(tmp_path):
    status, report, output = run(tmp_path, "--smoke", "--parts", "embedded")
    assert status == 0, output
    [comparison] = report["embedded"]["comparisons"]
    assert set(comparison["systems"]) == {"predict", "ours-packed-float32"}
    assert all(found["pairs_per_second"] > 0 for found in comparison["systems"].values())
    assert comparison["systems"]["predict"]["ratio"] == 1.0
    assert "| 150 tokens, 4 | ours-packed-float32 |" in output
    assert str(ROOT) not in json.dumps(report)


def test_without_a_gpu_it_says_what_works_here(tmp_path):
    status, report, output = run(tmp_path)
    assert status == 2 and report == {}
    assert "There is no CUDA device here; --smoke walks through on the CPU." in output
