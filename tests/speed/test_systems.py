"""Every system that is possible here, on a tiny model: they all give the scores of ``CrossEncoder.predict``."""

from __future__ import annotations

import numpy as np
import pytest
from support.speed import TEXTS, request, setting_of

from biorerank_plugins.errors import ModelError
from biorerank_plugins.speed.compare import scores_of
from biorerank_plugins.speed.rerankers import assert_dtype, load
from biorerank_plugins.speed.systems import BASELINE, SYSTEMS, choose_systems, folder_of, load_systems


@pytest.fixture
def setting(tiny_cross_encoder_dir, tmp_path):
    return setting_of(tiny_cross_encoder_dir, tmp_path)


def _load(name, setting):
    systems, not_possible = load_systems([name], setting)
    assert not_possible == {}
    return systems[name]


@pytest.fixture(scope="module")
def expected(tiny_cross_encoder_dir):
    """What sentence-transformers itself gives."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu", max_length=128)
    return model.predict([(request().query, text) for text in TEXTS], show_progress_bar=False)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("predict", 0.0),
        ("st-best", 0.05),
        ("ours-torch-float32", 1e-6),
        ("ours-default", 0.05),
    ],
)
def test_a_system_gives_the_scores_of_the_baseline(setting, expected, name, tolerance):
    system = _load(name, setting)
    np.testing.assert_allclose(scores_of(system, request()), expected, atol=tolerance, rtol=0)
    system.close()


def test_what_is_not_possible_is_listed_with_the_reason(setting):
    systems, not_possible = load_systems(["ours-torch-float16", "ours-packed-float16"], setting)
    assert systems == {}
    assert "float16" in not_possible["ours-torch-float16"]
    assert "float16" in not_possible["ours-packed-float16"]


def test_the_precision_of_the_baseline_is_asserted(setting):
    import torch

    model = load(setting, "bfloat16")
    assert_dtype(model, torch.bfloat16)
    with pytest.raises(RuntimeError, match=r"should be torch\.float32, and are torch\.bfloat16"):
        assert_dtype(model, torch.float32)


def test_names_and_beginnings_choose():
    assert choose_systems([]) == list(SYSTEMS)
    assert choose_systems(["st"]) == [BASELINE, "st-best"]
    ours = choose_systems(["ours"])
    assert ours[0] == BASELINE
    assert all(name.startswith("ours-") for name in ours[1:]) and len(ours) > 5
    assert choose_systems(["predict"]) == [BASELINE]


@pytest.mark.parametrize("name", ["", "our", "nothing", "ours-"])
def test_an_unknown_system_is_an_error_that_lists_them(name):
    with pytest.raises(ValueError, match="Choose from: predict, st-best"):
        choose_systems([name])


def test_folders_and_embedded_names_are_models(tiny_cross_encoder_dir, tmp_path):
    assert folder_of(tiny_cross_encoder_dir, tmp_path) == tiny_cross_encoder_dir
    assert folder_of(None, tmp_path).name == "biorerank-minilm-l6"
    with pytest.raises(ModelError, match="no embedded model"):
        folder_of("nothing", tmp_path)
