"""The figures in the metadata of the cards, as the hub reads them, are those that were measured."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard
from support import ROOT

from benchmarks.quality.card_metadata import OWN, results_of
from biorerank_plugins import models

MEASURED = json.loads((ROOT / "benchmarks" / "results" / "models.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", models.names())
def test_a_card_holds_the_figures_that_were_measured(model: str):
    """After a new measurement: python -m benchmarks.quality.card_metadata benchmarks/results/models.json."""
    card = ModelCard.load(models.path(model) / "README.md")
    assert card.data.model_name == model
    # Read back from the file's text, so that what the hub parses is compared.
    assert {_key(one): one.metric_value for one in card.data.eval_results} == {
        _key(one): one.metric_value for one in results_of(model, MEASURED)
    }


def _key(result: object) -> tuple[str, ...]:
    return tuple(getattr(result, name) for name in ("task_type", "dataset_type", "metric_type", "metric_name"))


def test_the_main_figures_are_found_by_hand():
    runs = MEASURED["sets"]["bioasq-dev"]["runs"]
    card = ModelCard.load(models.path(models.DEFAULT_RERANKER) / "README.md")
    found = {one.metric_name: one.metric_value for one in card.data.eval_results if one.dataset_type == "bioasq-dev"}
    assert found["nDCG@10, hybrid first stage and reranker"] == runs["hybrid + reranker"]["nDCG@10"]
    assert set(OWN) == set(models.names())
