"""What the adapters share: the text of a host's object, its score, and the errors."""

from __future__ import annotations

import json
import math
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from support.scorers import zero

from biorerank_plugins import BioReranker, Passage, models
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.adapters_common import FIRST_STAGE_KEY, HostTexts, host_candidate, kept_score, saved_model_name
from biorerank_plugins.errors import BioRerankError, MissingExtraError, ModelError, require_extra


@pytest.fixture
def folder_with_template(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    (folder / "biorerank.json").write_text(json.dumps({"template": "{title} | {text}"}), encoding="utf-8")
    return folder


def _never() -> str:
    raise AssertionError("the host's text was asked for")


# Missing extras


def test_a_missing_module_is_an_error_with_the_pip_line():
    with pytest.raises(MissingExtraError, match=rf"'host_that_is_not_there'.*{re.escape(install_line('haystack'))}"):
        with require_extra("haystack"):
            import host_that_is_not_there  # noqa: F401
    with pytest.raises(MissingExtraError) as caught, require_extra("langchain"):
        raise ModuleNotFoundError("No module", name="langchain_core.retrievers")
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, BioRerankError)
    assert caught.value.extra == "langchain"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_other_errors_of_an_import_stay_what_they_are():
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'") as caught:
        with require_extra("haystack"):
            from json import no_such_name  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)
    with pytest.raises(ZeroDivisionError), require_extra("haystack"):
        _ = 1 / 0


def test_the_extra_that_is_missing_inside_wins():
    with pytest.raises(MissingExtraError, match=r"\[pdf\]"), require_extra("haystack"):
        raise MissingExtraError("pypdf", "pdf")


# Texts


def test_a_foreign_model_gets_the_host_s_text(tiny_cross_encoder_dir):
    for model in (zero(), tiny_cross_encoder_dir, str(tiny_cross_encoder_dir)):
        texts = HostTexts(model, None)
        passage = texts.passage("a", "plain", {"title": "T", "year": 2013}, lambda: "T: plain")
        assert not texts.own and texts.template == "{text}"
        assert (passage.id, passage.text, passage.title) == ("a", "T: plain", None)
        assert passage.metadata == {"title": "T", "year": 2013}


def test_a_model_with_a_template_gets_title_and_text(folder_with_template):
    texts = HostTexts(folder_with_template, None)
    passage = texts.passage("a", "plain", {"title": "T"}, _never)
    assert texts.own and texts.template is None  # which is the stored one, in BioReranker
    assert (passage.text, passage.title) == ("plain", "T")
    assert texts.passage("a", "plain", {}, _never).title is None
    assert texts.passage("a", "plain", {"title": 1984}, _never).title == "1984"
    assert texts.passage("a", "plain", {"title": "T", "name": "N"}, _never, title_key="name").title == "N"


def test_a_template_of_the_caller_is_an_order(tiny_cross_encoder_dir):
    texts = HostTexts(tiny_cross_encoder_dir, "{title}: {text}")
    assert texts.own and texts.template == "{title}: {text}"
    assert texts.passage("a", "plain", {"title": "T"}, _never).title == "T"


def test_what_is_read_is_what_the_template_says(folder_with_template, tiny_cross_encoder_dir):
    """End to end: the reranker that gets the template and the passage reads the text that was meant."""
    options = {"device": "cpu", "dtype": "float32"}
    plain = BioReranker(tiny_cross_encoder_dir, **options)
    cases = [
        (folder_with_template, None, "p53 | tumours"),
        (tiny_cross_encoder_dir, None, "the host says"),
        (tiny_cross_encoder_dir, "{text} ({title})", "tumours (p53)"),
    ]
    for model, template, read in cases:
        texts = HostTexts(model, template)
        passage = texts.passage("a", "tumours", {"title": "p53"}, lambda: "the host says")
        [line] = BioReranker(model, template=texts.template, **options).rank("what is p53", [passage])
        assert [line.score] == plain.score("what is p53", [read])


@pytest.mark.skipif(models.DEFAULT_RERANKER not in models.names(), reason="the embedded reranker is not here")
def test_the_embedded_model_stores_a_template():
    assert HostTexts(None, None).own and HostTexts(models.DEFAULT_RERANKER, None).own


def test_a_model_that_is_not_there_is_an_error():
    with pytest.raises(ModelError):
        HostTexts("no-such-model", None)


# Scores


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0.5, 0.5),
        (0, 0.0),
        (-3, -3.0),
        (np.float32(0.25), 0.25),
        (np.int64(7), 7.0),
        ("0.5", 0.5),
        (None, None),
        (True, None),
        (False, None),
        (float("nan"), None),
        (float("inf"), None),
        (-math.inf, None),
        (np.float32("nan"), None),
        ("high", None),
        ([0.5], None),
        ({}, None),
        pytest.param(10**400, None, id="huge"),
    ],
)
def test_a_kept_score_is_a_finite_python_float_or_none(given, kept):
    value = kept_score(given)
    assert value == kept and (value is None or type(value) is float)


def test_a_candidate_carries_score_rank_and_first_stage():
    passage = Passage("a", "text")
    candidate = host_candidate(passage, np.float32(0.5), 3, {FIRST_STAGE_KEY: "lexical"})
    assert (candidate.passage, candidate.score, candidate.rank) == (passage, 0.5, 3)
    assert type(candidate.score) is float and candidate.first_stage == "lexical"
    for other in ({}, {FIRST_STAGE_KEY: None}, {FIRST_STAGE_KEY: 3}):
        assert host_candidate(passage, float("nan"), 1, other).first_stage is None
        assert host_candidate(passage, float("nan"), 1, other).score is None


# Saved models


def test_names_and_folders_can_be_saved(tmp_path):
    assert saved_model_name(None) is None
    assert saved_model_name("ncbi/MedCPT-Cross-Encoder") == "ncbi/MedCPT-Cross-Encoder"
    assert saved_model_name(tmp_path) == str(tmp_path)


@pytest.mark.parametrize("model", [zero(), threading.Lock(), 5])
def test_objects_cannot_and_the_message_says_what_to_do(model):
    with pytest.raises(ValueError, match=f"{type(model).__name__} object.*folder"):
        saved_model_name(model)
