"""Every peer that is possible here, on a tiny model: they all give the scores of ``CrossEncoder.predict``."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from support.speed import TEXTS, request, setting_of

from benchmarks.speed.counting import Architecture
from benchmarks.speed.peers import bytes_of_batch
from benchmarks.speed.systems import ALL_SYSTEMS
from biorerank_plugins.speed.compare import scores_of
from biorerank_plugins.speed.systems import BASELINE, SYSTEMS, choose_systems, load_systems


@pytest.fixture
def setting(tiny_cross_encoder_dir, tmp_path):
    return setting_of(tiny_cross_encoder_dir, tmp_path)


def _load(name, setting):
    systems, not_possible = load_systems([name], setting, known=ALL_SYSTEMS)
    assert not_possible == {}
    return systems[name]


@pytest.fixture(scope="module")
def expected(tiny_cross_encoder_dir):
    """What sentence-transformers itself gives."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu", max_length=128)
    return model.predict([(request().query, text) for text in TEXTS], show_progress_bar=False)


@pytest.mark.parametrize("name", ["llama-index", "haystack", "rerankers"])
def test_a_peer_gives_the_scores_of_the_baseline(setting, expected, name):
    np.testing.assert_allclose(scores_of(_load(name, setting), request()), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "tolerance"), [("flashrank", 1e-5), ("flashrank-int8", 0.2), ("st-onnx", 1e-5)])
def test_onnx_runtime_gives_the_scores_of_the_baseline(setting, expected, name, tolerance):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    before = list(logging.getLogger().handlers)
    system = _load(name, setting)
    np.testing.assert_allclose(scores_of(system, request()), expected, atol=tolerance, rtol=0)
    assert logging.getLogger().handlers == before


def test_openvino_gives_the_scores_of_the_baseline_or_says_why_not(setting, expected):
    pytest.importorskip("openvino")
    systems, not_possible = load_systems(["st-openvino-float32"], setting, known=ALL_SYSTEMS)
    if not systems:  # an allocator that it does not go with is loaded before Python
        assert "OpenVINO ends the process" in not_possible["st-openvino-float32"]
        return
    np.testing.assert_allclose(scores_of(systems["st-openvino-float32"], request()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "package", "said"),
    [
        ("llama-index", "llama_index.postprocessor.sbert_rerank", "what LlamaIndex calls"),
        ("haystack", "haystack_integrations.components.rankers.sentence_transformers", "what Haystack calls"),
        ("rerankers", "rerankers.models.transformer_ranker", "rerankers' calls"),
        ("flashrank", "flashrank", "FlashRank's calls"),
    ],
)
def test_without_its_package_the_same_call_is_made_and_said(setting, expected, monkeypatch, name, package, said):
    if name == "flashrank":
        pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, package, None)
    system = _load(name, setting)
    assert said in system.way and "not installed" in system.way
    np.testing.assert_allclose(scores_of(system, request()), expected, atol=1e-5, rtol=0)


def test_the_classes_are_used_where_they_are_installed(setting):
    for name, package, said in (
        ("llama-index", "llama_index.postprocessor.sbert_rerank", "LlamaIndex SentenceTransformerRerank"),
        ("haystack", "haystack_integrations.components.rankers.sentence_transformers", "Haystack Sentence"),
    ):
        pytest.importorskip(package)
        assert _load(name, setting).way.startswith(said)


def test_flashrank_refuses_a_batch_that_cannot_fit(setting):
    pytest.importorskip("onnxruntime")
    system = _load("flashrank", setting)
    huge = request(TEXTS * 2)
    with pytest.raises(Exception, match="GB are free"):
        system.prepare(type(huge)(huge.query, huge.texts, (10_000_000,) * len(huge.texts)))


def test_libraries_of_the_cpu_are_not_compared_with_a_gpu(tiny_cross_encoder_dir, tmp_path):
    from dataclasses import replace

    setting = replace(setting_of(tiny_cross_encoder_dir, tmp_path), device="cuda")
    _, not_possible = load_systems(["flashrank", "st-onnx", "st-openvino-float32"], setting, known=ALL_SYSTEMS)
    assert all("on the CPU" in why for why in not_possible.values())
    assert len(not_possible) == 3


def test_bytes_of_a_batch_grow_with_the_square_of_its_length():
    shape = Architecture(layers=1, hidden=4, intermediate=8, heads=2)
    # 2 matrices of 3 pairs x 2 heads x 5 x 5, and 3 x 5 tokens of 4 vectors of 4 and one of 8, 4 bytes each
    assert bytes_of_batch(shape, 3, 5) == 4 * (2 * 3 * 2 * 25 + 3 * 5 * (16 + 8))


def test_peers_are_beside_what_the_command_compares():
    assert set(SYSTEMS) < set(ALL_SYSTEMS)
    assert choose_systems(["flashrank"], ALL_SYSTEMS) == [BASELINE, "flashrank", "flashrank-int8"]
    with pytest.raises(ValueError, match="no system 'flashrank'"):
        choose_systems(["flashrank"])
