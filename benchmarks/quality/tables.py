"""Print the result tables of documentation and cards from a result file of ``evaluate_models.py``.

python -m benchmarks.quality.tables benchmarks/results/models.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_result

NAMES = {
    "bioasq-dev": "BioASQ, question → snippet",
    "claim": "claim → abstract",
    "phrase": "phrase → abstract",
    "answer": "question → long answer (MedQuAD)",
    "pubmedqa": "PubMedQA, title → abstract section",
    "liveqa": "LiveQA-Med, consumer question → answer",
    "covidqa": "CovidQA, question → title and span",
    "cystic-fibrosis": "Cystic fibrosis (1974–79), question → abstract",
    "trec-covid": "TREC-COVID, topic → abstract",
    "check-covid": "Check-COVID, claim → abstract",
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("results", type=Path)
    results = read_result(parser.parse_args().results)["sets"]
    print("| dev set | queries | BM25 | bi-encoder | hybrid | + reranker alone | **+ reranker (default)** | p |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, title in NAMES.items():
        if name in results:
            print(row(title, results[name], "nDCG@10", ("lexical", "dense", "hybrid"), "hybrid"))
    if "indoc-dev" in results:
        print(
            row("BioASQ dev, sentences of an abstract (AP)", results["indoc-dev"], "AP", (None, "dense", None), "dense")
        )


def row(title: str, found: dict[str, Any], measure: str, stages: tuple[str | None, ...], before: str) -> str:
    runs = found["runs"]
    cells = ["" if stage is None else f"{runs[stage][measure]:.3f}" for stage in stages]
    fused = runs[f"{before} + reranker"]
    alone = f"{runs[f'{before} + reranker alone'][measure]:.3f}"
    stages_shown = " | ".join(cells)
    return f"| {title} | {found['queries']} | {stages_shown} | {alone} | **{fused[measure]:.3f}** | {fused['p']:.4f} |"


if __name__ == "__main__":
    main()
