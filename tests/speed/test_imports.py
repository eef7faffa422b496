"""The package is imported on a bare machine: a GPU that holds torch, transformers and nothing else."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import biorerank_plugins.speed

ABSENT = ("faiss", "llama_index", "haystack", "langchain_core", "onnx", "onnxruntime")
ABSENT += ("matplotlib", "bm25s", "Stemmer", "sklearn", "lxml")


def test_nothing_optional_is_needed_for_the_imports():
    names = [
        f"biorerank_plugins.speed.{module.name}" for module in pkgutil.iter_modules(biorerank_plugins.speed.__path__)
    ]
    program = f"""
import importlib, sys
for name in {ABSENT!r}:
    sys.modules[name] = None
for name in {names!r}:
    importlib.import_module(name)
print(sorted(name for name in ("torch", "transformers", "sentence_transformers") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(names) > 5
