"""What importing the training modules loads."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import biorerank_plugins.training

HEAVY = ("faiss", "typer", "datasets", "sentence_transformers", "matplotlib", "transformers", "haystack", "llama_index")


def test_training_loads_neither_faiss_nor_a_framework_nor_the_libraries_it_trains_with():
    names = [
        f"biorerank_plugins.training.{module.name}"
        for module in pkgutil.iter_modules(biorerank_plugins.training.__path__)
    ]
    code = f"import sys, {', '.join(names)}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
