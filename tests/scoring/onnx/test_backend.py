"""ONNX Runtime: parity with transformers, int8 within its tolerance, and files that are built once and checked."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs
from support.packed import FAMILIES, HAVE_TYPES, make_model, make_pairs

from biorerank_plugins import BioReranker
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.errors import MissingExtraError
from biorerank_plugins.runtime.devices import cpu_adds_bytes_exactly
from biorerank_plugins.scoring.onnx import files as onnx_files
from biorerank_plugins.scoring.onnx.backend import OnnxBackend, why_not_onnx
from biorerank_plugins.scoring.onnx.files import built_once, cache_folder
from biorerank_plugins.scoring.onnx.quantization import MOST_STEPS, SAFE_STEPS
from biorerank_plugins.scoring.torch_backend import TorchBackend

pytestmark = needs("onnxruntime", "onnx")
CPU = torch.device("cpu")
QUERY = "is p53 a tumour suppressor"
TEXTS = ["p53 suppresses tumours", "aspirin inhibits platelets", "", "the heart failure cells " * 20]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIORERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnx"


class Tokenizer:
    """Stands for the tokenizer of the random models, which have none; int8 is not fitted with it."""

    pad_id = 0


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mpnet"])
def test_the_graph_gives_the_logits_of_transformers(family: str):
    pairs = make_pairs(5, 40, 1, 17, 17, types=2 if family in HAVE_TYPES else 1)
    options = {"dtype": torch.float32, "has_types": family in HAVE_TYPES}
    expected = TorchBackend(make_model(family), device=CPU, pad_id=1, **options).forward(pairs)
    given = OnnxBackend(make_model(family), tokenizer=Tokenizer(), **options).forward(pairs)
    assert given.dtype == np.float32
    assert given == pytest.approx(expected, abs=2e-5)


def test_a_bias_for_distances_is_refused_with_the_reason():
    assert "bias for distances" in str(why_not_onnx(make_model("mpnet"), CPU))


def _logits(folder: Path, texts: list[str], dtype: str, **options: object) -> list[float]:
    with BioReranker(folder, dtype=dtype, device="cpu", **options) as reranker:
        ranking = reranker.rank(QUERY, texts)
    return [line.logit for line in sorted(ranking, key=lambda line: line.input_index)]


def test_int8_is_near_fp32_and_does_not_depend_on_its_neighbours(tiny_cross_encoder_dir: Path):
    exact = _logits(tiny_cross_encoder_dir, TEXTS, "float32")
    together = _logits(tiny_cross_encoder_dir, TEXTS, "int8")
    # Weights drawn at random: coarser than a trained model. Where two products are added in 16 bits, weights have half
    # as many steps, each twice as large.
    steps = MOST_STEPS if cpu_adds_bytes_exactly() else SAFE_STEPS
    assert together == pytest.approx(exact, abs=0.25 * MOST_STEPS / steps)
    assert together != pytest.approx(exact, abs=1e-6)  # it is int8
    alone = [_logits(tiny_cross_encoder_dir, [text], "int8")[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_file_is_built_once_and_does_not_depend_on_the_limits_of_who_builds_it(
    tiny_cross_encoder_dir: Path, cache: Path, caplog: pytest.LogCaptureFixture
):
    with BioReranker(tiny_cross_encoder_dir, dtype="int8", max_length=24, query_max_length=8) as short:
        short.rank(QUERY, TEXTS)
    [file] = cache.glob("*-int8.onnx")
    built = file.read_bytes()
    file.unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO, "biorerank_plugins.scoring"):
        first = _logits(tiny_cross_encoder_dir, TEXTS, "int8")
        written = file.stat().st_mtime_ns
        assert _logits(tiny_cross_encoder_dir, TEXTS, "int8") == first
    assert file.read_bytes() == built
    assert file.stat().st_mtime_ns == written
    assert caplog.text.count("Fitting int8 scales") == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".onnx", ".sha256"]


def test_an_activation_without_an_operator_is_named():
    assert why_not_onnx(make_model(hidden_act="silu"), CPU) == "The activation SiLUActivation has no ONNX form here."


def test_memory_that_runs_out_is_told_apart(monkeypatch: pytest.MonkeyPatch):
    backend = OnnxBackend(make_model(), dtype=torch.float32, tokenizer=Tokenizer(), has_types=True)

    class Full:
        def run(self, *_: object) -> None:
            raise Exception(
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
            )

    backend._session = Full()
    with pytest.raises(MemoryError, match="Failed to allocate"):
        backend.forward(make_pairs(5, 9))


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "no hash", "hash of something else"])
def test_a_damaged_file_is_built_again(damage, tiny_cross_encoder_dir, cache, caplog):
    expected = _logits(tiny_cross_encoder_dir, TEXTS, "float32", backend="onnx")
    [file] = cache.glob("*.onnx")
    content, stated = file.read_bytes(), file.with_suffix(".sha256")
    middle = len(content) // 2
    if damage == "flipped":
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage in ("cut", "empty"):
        file.write_bytes(content[:middle] if damage == "cut" else b"")
    elif damage == "no hash":
        stated.unlink()
    else:
        stated.write_text("0" * 64)
    assert _logits(tiny_cross_encoder_dir, TEXTS, "float32", backend="onnx") == expected
    assert file.read_bytes() == content
    assert ("is damaged and is built again" in caplog.text) == (damage != "no hash")


def test_a_file_that_cannot_be_loaded_is_built_again(cache: Path, caplog: pytest.LogCaptureFixture):
    def load(content: bytes | str) -> bytes:
        content = Path(content).read_bytes() if isinstance(content, str) else content
        if content == b"old":
            raise RuntimeError("made by another version")
        return content

    assert built_once("model", lambda: b"old", lambda content: Path(content).read_bytes()) == b"old"
    assert built_once("model", lambda: b"new", load) == b"new"
    assert "cannot be loaded and is built again: made by another version" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="nothing here refuses a write")
def test_without_a_folder_to_write_to_the_model_is_used_from_memory(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIORERANK_CACHE", str(tmp_path / "file"))  # no folder can be made there
    assert built_once("model", lambda: b"content", lambda content: content) == b"content"
    assert "Cannot keep the exported model" in caplog.text


def test_a_write_that_fails_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_files.os, "fsync", no_space)
    assert built_once("model", lambda: b"content", lambda content: content) == b"content"
    assert not list(cache.iterdir())


def test_the_cache_is_in_the_users_folder_unless_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BIORERANK_CACHE")
    assert cache_folder().parent.name.lower().startswith("biorerank")


def test_a_logit_that_is_not_finite_is_computed_again_by_torch(caplog: pytest.LogCaptureFixture):
    pairs = make_pairs(5, 9)
    backend = OnnxBackend(make_model(), dtype=torch.float32, tokenizer=Tokenizer(), has_types=True)
    expected = backend.forward(pairs)

    class Overflowing:
        def run(self, *_: object) -> list[np.ndarray]:
            return [np.array([expected[0], np.nan], np.float32)]

    backend._session = Overflowing()
    assert backend.forward(pairs) == pytest.approx(expected, abs=2e-5)
    assert "computed again in fp32 by torch" in caplog.text


def test_weights_that_are_no_numbers_are_refused():
    model = make_model()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.bias[0] = float("nan")
    assert "up to nan off" in str(why_not_onnx(model, CPU))


def test_it_says_why_it_cannot_run_a_model():
    assert why_not_onnx(make_model(), torch.device("cuda")) == "it runs on a CPU, not on cuda."
    assert "is none of" in str(why_not_onnx(torch.nn.Linear(2, 1), CPU))
    assert why_not_onnx(make_model(), CPU) is None


def test_without_onnx_runtime_the_message_holds_the_pip_line(
    tiny_cross_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError) as raised:
        BioReranker(tiny_cross_encoder_dir, dtype="int8").rank("a", ["b"])
    assert install_line("onnx") in str(raised.value)
