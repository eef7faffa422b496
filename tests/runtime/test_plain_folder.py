"""Folders that transformers alone runs: which they are, and that they score as ``CrossEncoder`` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.fresh import run_fresh

from biorerank_plugins import BioReranker
from biorerank_plugins.runtime.plain_folder import is_plain

PAIRS = [("which drug inhibits platelets", "aspirin inhibits platelets"), ("a", "the heart " * 90)]


@pytest.fixture
def folder(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))


def _change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_plain_folder_is_scored_without_importing_sentence_transformers(folder: Path) -> None:
    code = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "sentence_transformers"]:
    del sys.modules[name]
from biorerank_plugins import BioReranker
BioReranker(sys.argv[1], device="cpu").predict([("a", "b")])
sys.exit("sentence_transformers" in sys.modules)
"""
    done = run_fresh(code, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar of the library either


def test_scores_equal_those_of_cross_encoder(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    assert is_plain(folder)
    ours = BioReranker(folder, device="cpu", dtype="float32").predict(PAIRS)
    assert np.abs(ours - CrossEncoder(str(folder), device="cpu").predict(PAIRS)).max() < 3e-5


def test_the_stored_activation_is_used(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    sigmoid = BioReranker(folder, device="cpu", dtype="float32").predict(PAIRS)
    _change(folder / "config_sentence_transformers.json", activation_fn="torch.nn.modules.linear.Identity")
    assert is_plain(folder)
    ours = BioReranker(folder, device="cpu", dtype="float32").predict(PAIRS)
    assert np.abs(ours - CrossEncoder(str(folder), device="cpu").predict(PAIRS)).max() < 3e-5
    assert np.allclose(sigmoid, 1 / (1 + np.exp(-ours)), atol=1e-6)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config_sentence_transformers.json", {"activation_fn": "torch.nn.modules.activation.Tanh"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}, "default_prompt_name": "query"}),
        ("config_sentence_transformers.json", {"keep_in_fp32_modules": ["0.model.classifier"]}),
        ("config_sentence_transformers.json", {"model_type": "SentenceTransformer"}),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 16}}}),
        ("config.json", {"architectures": ["BertModel"]}),
        ("config.json", {"auto_map": {"AutoModel": "code.Model"}}),
        ("config.json", {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}),
    ],
)
def test_anything_unusual_is_left_to_cross_encoder(folder: Path, file: str, changes: dict[str, object]) -> None:
    _change(folder / file, **changes)
    assert not is_plain(folder)


def test_a_damaged_file_is_not_plain(folder: Path) -> None:
    (folder / "modules.json").write_text("{")
    assert not is_plain(folder)
