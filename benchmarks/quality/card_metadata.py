"""Write the figures of ``evaluate_models.py`` into the metadata of the cards, in the hub's form (``model-index``).

python -m benchmarks.quality.card_metadata benchmarks/results/models.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from benchmarks.common import parser_of, read_result
from benchmarks.quality.tables import NAMES
from biorerank_plugins import models

TYPES = {"nDCG@10": "ndcg_at_10", "R@100": "recall_at_100", "AP": "map"}
"""The hub's names of measures."""
SENTENCES = "BioASQ dev, sentences of an abstract"
# By model: the task, the measures, and the runs that are its own, with what their figures are called.
OWN = {
    models.DEFAULT_RERANKER: (
        "text-ranking",
        ("nDCG@10", "AP"),
        {
            "hybrid + reranker": "hybrid first stage and reranker",
            "hybrid + reranker alone": "hybrid first stage, by the logit",
            "dense + reranker": "bi-encoder and reranker",
            "dense + reranker alone": "bi-encoder, by the logit",
        },
    ),
    models.DEFAULT_ENCODER: ("sentence-similarity", ("nDCG@10", "R@100", "AP"), {"dense": "bi-encoder"}),
}


def results_of(model: str, measured: dict[str, Any]) -> list[EvalResult]:
    """Return the figures of a model as the hub keeps them.

    :param model: an embedded model.
    :param measured: the content of ``models.json``.
    """
    task, measures, runs = OWN[model]
    return [
        EvalResult(
            task_type=task,
            dataset_type=name,
            dataset_name=NAMES.get(name, SENTENCES),
            metric_type=TYPES[measure],
            metric_name=f"{measure}, {called}",
            metric_value=row[measure],
        )
        for name, found in measured["sets"].items()
        for run, called in runs.items()
        if (row := found["runs"].get(run)) is not None
        for measure in measures
        if measure in row and (measure != "nDCG@10" or "AP" not in row)  # sentences are ordered: AP is their measure
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("results", type=Path)
    measured = read_result(parser.parse_args().results)
    for model in OWN:
        path = models.path(model) / "README.md"
        card = ModelCard.load(path)
        card.data.model_name = model
        card.data.eval_results = results_of(model, measured)
        card.save(path)


if __name__ == "__main__":
    main()
