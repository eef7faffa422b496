"""A folder of half the size that every loader computes with in fp32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.training.export import export_fp16
from biorerank_plugins.errors import ModelError

PAIRS = [["is p53 a tumour suppressor", text] for text in ("p53", "aspirin binds platelets", "cells " * 50)]


def test_a_cross_encoder(tiny_cross_encoder_dir: Path, tmp_path: Path):
    from safetensors.torch import load_file
    from sentence_transformers import CrossEncoder

    out = export_fp16(tiny_cross_encoder_dir, str(tmp_path / "deep" / "out"))
    assert out == tmp_path / "deep" / "out"
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.float16}
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
    before, after = (CrossEncoder(str(folder), device="cpu") for folder in (tiny_cross_encoder_dir, out))
    assert {parameter.dtype for parameter in after.parameters()} == {torch.float32}
    assert after.predict(PAIRS) == pytest.approx(before.predict(PAIRS), abs=0.02)
    assert "torch_dtype" not in json.loads((out / "config.json").read_text())
    export_fp16(tiny_cross_encoder_dir, out)  # again, over the first


def test_an_encoder_keeps_its_modules(tiny_encoder_dir: Path, tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    out = export_fp16(tiny_encoder_dir, tmp_path)
    before, after = (SentenceTransformer(str(folder), device="cpu") for folder in (tiny_encoder_dir, out))
    assert [type(module) for module in after] == [type(module) for module in before]
    assert {parameter.dtype for parameter in after.parameters()} == {torch.float32}
    texts = [text for _, text in PAIRS]
    assert np.abs(after.encode(texts) - before.encode(texts)).max() < 0.01


def test_fp16_weights_can_be_exported_again_but_not_in_place(tiny_cross_encoder_dir: Path, tmp_path: Path):
    once = export_fp16(tiny_cross_encoder_dir, tmp_path / "once")
    twice = export_fp16(once, tmp_path / "twice")
    assert (once / "model.safetensors").read_bytes() == (twice / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is the folder itself"):
        export_fp16(once, tmp_path / "twice" / ".." / "once")


def test_a_weight_that_does_not_fit_is_refused_before_anything_is_written(tiny_cross_encoder_dir: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["classifier.bias"][0] = 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"'classifier.bias' does not fit into fp16"):
        export_fp16(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_refused(tiny_cross_encoder_dir: Path, tmp_path: Path, missing):
    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"has no {missing}"):
        export_fp16(folder, tmp_path / "out")


def test_a_further_module_with_weights_is_refused(tiny_encoder_dir: Path, tmp_path: Path):
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))
    (folder / "2_Dense").mkdir()
    save_file({"linear.weight": torch.ones(2)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match=r"The module 2_Dense of .* has weights"):
        export_fp16(folder, tmp_path / "out")
