"""The demo collection through both stages; as ``biorerank evaluate --beir biorerank_plugins/demo`` does it.

python -m benchmarks.quality.demo --out benchmarks/results/demo.json
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import DEMO, parser_of, write_result
from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.cli.before_after import before_after_document, comparisons_of
from biorerank_plugins.evaluation import evaluate_systems
from biorerank_plugins.readers import read_passages, read_qrels, read_queries

RESULT = "demo.json"
KEYS = (
    "queries", "queries_without_text", "candidates", "pairs", "measures", "method", "first_stage_seconds",
    "first_stage_ms_per_query", "rerank_seconds", "rerank_pairs_per_second", "per_query",
)  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--candidates", type=int, default=100, help="passages a question")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    with PassageIndex.build(read_passages(DEMO / "corpus.jsonl")) as index, BioReranker() as reranker:
        report = evaluate_systems(
            index,
            read_queries(DEMO / "queries.jsonl"),
            read_qrels(DEMO / "qrels" / "test.tsv"),
            rerankers=reranker,
            candidates=args.candidates,
        )
    for name, comparison in comparisons_of(report).items():
        print(f"{name}: {comparison.baseline:.3f} -> {comparison.value:.3f}")
    write_result(args.out, before_after_document(report), KEYS)


if __name__ == "__main__":
    main()
