"""``biorerank rerank --run``: the lists of another system, reranked and written as a run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli._common import check_writable
from biorerank_plugins.cli.inputs import HowToRead, read_collection, read_questions
from biorerank_plugins.cli.loading import Models
from biorerank_plugins.cli.one_line_errors import fail
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.passages import Passage


@dataclass(frozen=True, slots=True)
class RunJob:
    """A run, its questions, and where its passages are: in a file or in an index.

    :param candidates: passages of each list that are reranked; what stands behind them keeps its order.
    """

    run: Path
    queries: Path
    out: Path
    corpus: Path | None
    index: Path | None
    candidates: int


def rerank_run(job: RunJob, how: HowToRead, models: Models, options: dict[str, Any], output: Output) -> None:
    """Rerank the lists of a run; passages that are not known stay behind, in the order that they had."""
    from biorerank_plugins.evaluation import read_run
    from biorerank_plugins.passages import Candidate

    check_writable(job.out)
    lists = read_run(job.run)
    asked = [query for query in read_questions(job.queries, output) if query.id in lists]
    if not asked:
        few = ", ".join(list(lists)[:3])
        fail(f"The run {job.run} has none of the questions in {job.queries}; it has for example {few}.")
    orders = {query.id: _best_first(lists[query.id]) for query in asked}
    wanted = {id_ for ids in orders.values() for id_ in ids[: job.candidates]}
    passages = _passages(job, how, wanted, output)
    if not passages:
        few = ", ".join(sorted(wanted)[:3])
        fail(f"None of the passages of {job.run} is in the collection; the run names for example {few}.")
    with models.load_reranker() as reranker:
        for query in asked:
            head = [id_ for id_ in orders[query.id][: job.candidates] if id_ in passages]
            given = [Candidate(passages[id_], lists[query.id][id_], rank) for rank, id_ in enumerate(head, start=1)]
            ranked = [one.passage.id for one in reranker.rank(query.text, given, **options)] if given else []
            orders[query.id] = list(dict.fromkeys([*ranked, *orders[query.id]]))
    write_lists(orders, job.out, output, not_found=len(wanted - passages.keys()))
    if missing := len(wanted - passages.keys()):
        output.warn(f"{missing:,} of {len(wanted):,} passages of the run are not in the collection; they stand behind.")
    if left := len(lists) - len(asked):
        output.warn(f"{left:,} of {len(lists):,} lists of the run belong to none of the questions and were left out.")


def _passages(job: RunJob, how: HowToRead, wanted: set[str], output: Output) -> dict[str, Passage]:
    if job.corpus is not None:
        found = read_collection([job.corpus], how, output)
        return {passage.id: passage for passage in found if passage.id in wanted}
    assert job.index is not None
    with Models().open_index(job.index) as opened:
        known = ((id_, opened.get(id_)) for id_ in wanted)
        return {id_: passage for id_, passage in known if passage is not None}


def _best_first(found: Mapping[str, float]) -> list[str]:
    """Return the ids in trec_eval's order: equal scores by falling id."""
    return sorted(found, key=lambda id_: (found[id_], id_), reverse=True)


def write_lists(orders: Mapping[str, Sequence[str]], out: Path, output: Output, **more: int) -> None:
    """Write the ids of each question's passages, best first, as a run, and tell what is in it.

    :param more: numbers for the JSON document.
    """
    from biorerank_plugins.evaluation import run_from_order, write_run

    write_run(run_from_order(orders), out)
    count = sum(map(len, orders.values()))
    if output.json:
        output.document({"file": str(out), "queries": len(orders), "passages": count, **more})
    output.note(f"{out}: {len(orders):,} questions, {count:,} passages.")
