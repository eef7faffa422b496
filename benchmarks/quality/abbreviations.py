"""Questions in the words of the collection, and with abbreviations and long forms changed for each other.

    python -m benchmarks.quality.abbreviations --data "$BIORERANK_DATA" --work build/eval \\
        --out benchmarks/results/abbreviations.json

Only questions with a form that the collection's own definitions know in the other form too. ``off``: searched as they
stand; ``on``: with the other forms (what an index does). The weights were chosen on the calibration questions
(``--split calib --weights``); what is written is measured on the development questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.common import write_result
from benchmarks.quality.tasks import FIRST_STAGES, Scores, Task, open_index, parser_for, read_task, search
from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder, embedding, lexical
from biorerank_plugins.first_stage.definitions import Definitions
from biorerank_plugins.text.abbreviations import Abbreviations

RESULT = "abbreviations.json"
KEYS = ("split", "definitions", "weights", "as asked", "swapped")
MEASURES = ("nDCG@10", "R@100")
LONGEST = 8  # words


def swapped(query: str, known: Abbreviations) -> str | None:
    """Return a query with its first form changed for the other one; ``None`` if it has none."""
    words = query.split()
    spans = ((start, start + size) for size in range(LONGEST, 0, -1) for start in range(len(words) - size + 1))
    for start, end in spans:
        own = " ".join(words[start:end]).strip("?.,()")
        other = known.other_forms(own)
        inner = any(known.other_forms(" ".join(words[a:b])) for a, b in _inner(start, end))
        if other and not inner:
            return " ".join([*words[:start], other, *words[end:]])
    return None


def _inner(start: int, end: int) -> Iterator[tuple[int, int]]:
    if end - start > 1:
        yield from ((start + 1, end), (start, end - 1))


def with_forms(task: Task, known: Abbreviations) -> dict[str, Task]:
    """Return the questions that have another form, as they were asked and with the form changed."""
    asked = {q: text for q, text in task.queries.items() if known.other_forms(text)}
    changed = {q: other for q, text in asked.items() if (other := swapped(text, known)) is not None}
    return {
        name: replace(task, queries=queries, qrels={q: task.qrels[q] for q in queries})
        for name, queries in (("as asked", asked), ("swapped", changed))
    }


def measured(found: Scores | dict[str, list[str]], task: Task) -> Any:
    return measure_run(run_from_order({q: list(own) for q, own in found.items()}), task.qrels, list(MEASURES))


def means(one: Any) -> dict[str, float]:
    return {name: round(one.means[name], 4) for name in MEASURES}


def reranked(index: PassageIndex, task: Task, reranker: BioReranker) -> dict[str, list[str]]:
    lists = index.search_many(list(task.queries.values()), 100)
    rankings = reranker.rank_many(list(zip(task.queries.values(), lists, strict=True)), show_progress=True)
    return {q: [one.passage.id for one in ranking] for q, ranking in zip(task.queries, rankings, strict=True)}


def rows_of(index: PassageIndex, task: Task, reranker: BioReranker | None) -> dict[str, Any]:
    """Measure both ways at every stage, with the paired test."""
    values: dict[str, dict[str, Any]] = {}
    kept = index.definitions
    for way, definitions in (("off", Definitions.none()), ("on", kept)):
        with index.reading() as contents:
            assert contents.lexical is not None
            contents.lexical.definitions = definitions
        values[way] = {stage: measured(search(index, task, stage), task) for stage in FIRST_STAGES}
        if reranker is not None:
            values[way]["hybrid + reranker"] = measured(reranked(index, task, reranker), task)
    return {
        "queries": len(task.queries),
        **{
            stage: {
                **{way: means(values[way][stage]) for way in values},
                "p": {m: _p(values["off"][stage], values["on"][stage], m) for m in MEASURES},
            }
            for stage in values["on"]
        },
    }


def _p(before: Any, after: Any, measure: str) -> float:
    return round(compare(before.per_query[measure], after.per_query[measure]).p_value, 4)


def weights() -> Mapping[str, float]:
    return {"lexical": lexical.OTHER_FORMS_WEIGHT, "dense": embedding.OTHER_FORMS_SHARE}


def try_weights(index: PassageIndex, tasks: Mapping[str, Task]) -> None:
    """Print what other weights give; for choosing them."""
    for words, share in product((0.0, 0.05, 0.1, 0.2), (0.0, 0.3, 0.5, 0.6)):
        lexical.OTHER_FORMS_WEIGHT, embedding.OTHER_FORMS_SHARE = words, share
        row = {name: means(measured(search(index, task, "hybrid"), task)) for name, task in tasks.items()}
        print(words, share, row, flush=True)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--split", choices=["calib", "dev"], default="dev")
    parser.add_argument("--weights", action="store_true", help="try other weights instead; nothing is written")
    args: argparse.Namespace = parser.parse_args()
    task = read_task(f"bioasq-{args.split}", args.data, None)
    index = open_index(task, BiEncoder(args.encoder), args.work)
    known = index.definitions.abbreviations
    tasks = with_forms(task, known)
    if args.weights:
        try_weights(index, tasks)
        return
    with BioReranker(args.reranker) as reranker:
        result = {"split": args.split, "definitions": len(known), "weights": weights()}
        result |= {name: rows_of(index, part, reranker) for name, part in tasks.items()}
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
