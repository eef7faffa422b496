"""How the demo looks: the first stage's list beside the reranked one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from biorerank_plugins.cli.before_after import reranked_by
from biorerank_plugins.cli.output import Column, one_line
from biorerank_plugins.cli.views import headline, move

if TYPE_CHECKING:
    from rich.table import Table

    from biorerank_plugins.evaluation import SystemsReport
    from biorerank_plugins.evaluation.metrics import MeasuredRun
    from biorerank_plugins.passages import RankedPassage, Ranking
    from biorerank_plugins.readers import Query

ROWS = 5  # passages shown of each list
Means: TypeAlias = dict[str, dict[str, dict[str, float]]]
"""``mean``, ``low`` and ``high`` by measure and system."""
_MARKS = {2: ("●", "bold green"), 1: ("○", "green")}
LEGEND = Text(
    "● answers the question   ○ answers it in part\n↑n moved up by n places   % probability of relevance", style="dim"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A question with the reranked list, its judgements, and nDCG@10 before and after, where it is judged."""

    ranking: Ranking
    grades: Mapping[str, int] | None = None
    ndcg: tuple[float, float] | None = None

    def found(self) -> list[RankedPassage]:
        """Return the passages in the order of the first stage."""
        return sorted(self.ranking, key=lambda ranked: ranked.input_index)

    def to_dict(self) -> dict[str, Any]:
        """Return both lists as plain JSON types."""
        return {
            "query": self.ranking.query,
            "first_stage": [self._line(r, r.input_index + 1, r.retrieval_score) for r in self.found()[:ROWS]],
            "reranked": [self._line(r, r.rank, r.score) for r in self.ranking[:ROWS]],
            "ndcg@10": None if self.ndcg is None else {"first_stage": self.ndcg[0], "reranked": self.ndcg[1]},
        }

    def _line(self, ranked: RankedPassage, rank: int, score: float | None) -> dict[str, Any]:
        grade = None if self.grades is None else self.grades.get(ranked.passage.id, 0)
        return {"rank": rank, **ranked.passage.to_dict(), "score": score, "grade": grade}


def render(shown: Shown) -> RenderableType:
    """Lay out one question."""
    parts: list[RenderableType] = [Text(one_line(shown.ranking.query), style="bold cyan"), _side_by_side(shown)]
    if shown.ndcg is not None:
        before, after = shown.ndcg
        parts.append(Text(f"nDCG@10 of this question: {before:.2f} → {after:.2f}", style="dim"))
    if len(shown.ranking) > 0:
        parts.append(_best(shown.ranking[0]))
    return Group(*parts, Text())


def _side_by_side(shown: Shown) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("")
    table.add_column("First stage", ratio=2, no_wrap=True, overflow="ellipsis")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("%", justify="right", no_wrap=True)
    table.add_column("Reranked", ratio=3, no_wrap=True, overflow="ellipsis")
    for rank, (before, after) in enumerate(zip(shown.found()[:ROWS], shown.ranking[:ROWS], strict=True), start=1):
        left = (str(rank), _mark(shown, before), Text(headline(before.passage)))
        percent = f"{100 * after.probability:.0f}"
        right = (_moved(after), _mark(shown, after), percent, Text(headline(after.passage)))
        table.add_row(*left, *right)
    return table


def _mark(shown: Shown, ranked: RankedPassage) -> Text:
    grade = 0 if shown.grades is None else shown.grades.get(ranked.passage.id, 0)
    return Text(*_MARKS.get(min(grade, 2), (" ", "")))


def _moved(ranked: RankedPassage) -> Text:
    moved = move(ranked.input_index + 1, ranked.rank)
    return Text(moved, style={"↑": "bold green", "↓": "red"}.get(moved[0], "dim"))


def _best(ranked: RankedPassage) -> RenderableType:
    passage = ranked.passage
    pmid = passage.metadata.get("pmid")
    source = f"PMID {pmid}" if pmid is not None else passage.id
    text = Text.assemble(("Top passage: ", "bold"), one_line(passage.text), (f" [{one_line(source)}]", "dim"))
    return Padding(text, (0, 0, 0, 2))


def telling(report: SystemsReport, queries: Sequence[Query], wanted: int) -> list[Query]:
    """Return so many questions that show what reranking does.

    They are the one that gains most, one that stays as it is, the one that loses most; then the others as they come.
    """
    measure = report.measures[0]
    before, after = (
        report.systems[name].measured.per_query[measure] for name in (report.baseline, reranked_by(report).name)
    )
    gains = {query.id: after[query.id] - before[query.id] for query in queries if query.id in before}
    judged = [query for query in queries if query.id in gains]
    if not judged:
        return list(queries[:wanted])
    most = max(judged, key=lambda query: gains[query.id])
    same = next((query for query in judged if gains[query.id] == 0.0), None)
    least = min(judged, key=lambda query: gains[query.id])
    chosen = {query.id: query for query in (most, same, least, *judged) if query is not None}
    return list(chosen.values())[:wanted]


def means_of(report: SystemsReport, vector_search: MeasuredRun) -> Means:
    """Return mean and 95 % interval of each measure by system: vector search, first stage, reranked."""
    from biorerank_plugins.evaluation.significance import interval

    first, last = (report.systems[name].measured for name in (report.baseline, reranked_by(report).name))
    found: Means = {}
    for measure in report.measures:
        found[measure] = {}
        for shown, measured in {"vector search": vector_search, "first stage": first, "reranked": last}.items():
            values = measured.per_query[measure]
            low, high = interval([values.get(query, 0.0) for query in report.queries])
            mean = sum(values.values()) / len(report.queries)
            found[measure][shown] = {"mean": mean, "low": low, "high": high}
    return found


def means_table(means: Means) -> tuple[list[Column], list[list[object]]]:
    """Lay out the means: a measure a line."""
    names = list(next(iter(means.values())))
    rows: list[list[object]] = [
        [measure, *(f"{one['mean']:.3f} ({one['low']:.2f}–{one['high']:.2f})" for one in by_system.values())]
        for measure, by_system in means.items()
    ]
    return [Column("mean"), *(Column(name, numeric=True) for name in names)], rows
