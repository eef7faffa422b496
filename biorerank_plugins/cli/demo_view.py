"""How the demo looks: the first stage's list beside the reranked one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from biorerank_plugins.cli.output import one_line
from biorerank_plugins.cli.views import move

if TYPE_CHECKING:
    from rich.table import Table

    from biorerank_plugins.passages import RankedPassage, Ranking

ROWS = 5  # passages shown of each list
_NARROW = 100  # below this width the columns of scores give way to text
_MARKS = {2: ("●", "bold green"), 1: ("○", "green")}


@dataclass(frozen=True, slots=True)
class Shown:
    """A question, its two lists, and what is known about them.

    :param ranking: the reranked list; it knows the order in which the first stage gave the passages.
    :param grades: judgements of the question; ``None`` if there are none.
    :param ndcg: nDCG@10 before and after; ``None`` if there are no judgements.
    """

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


def render(shown: Shown, *, width: int) -> RenderableType:
    """Lay out one question.

    :param width: characters of a line.
    """
    parts: list[RenderableType] = [Text(one_line(shown.ranking.query), style="bold cyan"), _side_by_side(shown, width)]
    if shown.ndcg is not None:
        before, after = shown.ndcg
        parts.append(Text(f"nDCG@10 of this question: {before:.2f} → {after:.2f}", style="dim"))
    if len(shown.ranking) > 0:
        parts.append(_best(shown.ranking[0]))
    return Group(*parts, Text())


def _side_by_side(shown: Shown, width: int) -> Table:
    from rich import box
    from rich.table import Table

    wide = width >= _NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, width=width, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("")
    if wide:
        table.add_column("", justify="right", style="dim")
    table.add_column("First stage (bi-encoder + BM25)", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    if wide:
        table.add_column("", justify="right", style="dim")
    table.add_column("Reranked (cross-encoder)", ratio=1, no_wrap=True, overflow="ellipsis")
    for rank, (before, after) in enumerate(zip(shown.found()[:ROWS], shown.ranking[:ROWS], strict=True), start=1):
        left = [_mark(shown, before), *_score(before.retrieval_score, wide), _headline(before)]
        right = [_moved(after), _mark(shown, after), *_score(after.score, wide), _headline(after)]
        table.add_row(str(rank), *left, *right)
    return table


def _mark(shown: Shown, ranked: RankedPassage) -> Text:
    grade = 0 if shown.grades is None else shown.grades.get(ranked.passage.id, 0)
    return Text(*_MARKS.get(min(grade, 2), (" ", "")))


def _moved(ranked: RankedPassage) -> Text:
    moved = move(ranked.input_index + 1, ranked.rank)
    return Text(moved, style={"↑": "bold green", "↓": "red"}.get(moved[0], "dim"))


def _score(score: float | None, wide: bool) -> Iterator[Text]:
    if wide:
        yield Text("" if score is None else f"{score:.2f}")


def _headline(ranked: RankedPassage) -> Text:
    passage = ranked.passage
    return Text(one_line(passage.title or passage.text))


def _best(ranked: RankedPassage) -> RenderableType:
    passage = ranked.passage
    pmid = passage.metadata.get("pmid")
    source = f"PMID {pmid}" if pmid is not None else passage.id
    text = Text.assemble(("Top passage: ", "bold"), one_line(passage.text), (f" [{one_line(source)}]", "dim"))
    return Padding(text, (0, 0, 0, 2))


def legend(*, width: int) -> Text:
    """Say what the signs mean; scores only where they are shown."""
    signs = "● answers the question   ○ answers it in part   ↑n moved up by n places"
    return Text(signs + ("   scores: bi-encoder and BM25 │ relevance" if width >= _NARROW else ""), style="dim")
