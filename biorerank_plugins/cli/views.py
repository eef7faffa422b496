"""How passages look: in rankings, and below answers with the evidence highlighted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from biorerank_plugins.cli.output import Column, Output, one_line, printable

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import FoundCandidates
    from biorerank_plugins.passages import Evidence, Passage, RankedPassage, Ranking

Table = tuple[list[Column], list[list[object]]]

_SNIPPET = 280  # characters of a passage on a terminal: two or three lines; a pipe gets the whole text
_AROUND = 240  # characters of a passage shown on each side of its evidence
_BAR = 10  # characters of a probability's bar


def move(before: int, after: int) -> str:
    """Say how a passage moved between two lists, by its ranks counted from 1.

    >>> move(5, 1), move(1, 3), move(2, 2)
    ('↑4', '↓2', '=')
    """
    if before == after:
        return "="
    return f"↑{before - after}" if before > after else f"↓{after - before}"


def headline(passage: Passage) -> str:
    """Return the title of a passage, or else its text, on one line."""
    return one_line(passage.title or passage.text)


def _passage_text(passage: Passage) -> str:
    text = one_line(f"{passage.title}: {passage.text}" if passage.title else passage.text)
    if sys.stdout.isatty() and len(text) > _SNIPPET:
        return f"{text[:_SNIPPET].rstrip()}…"
    return text


def ranking_table(ranking: Ranking, *, is_boosted: bool = False) -> Table:
    """Lay out a ranking; ``fused`` and ``boost`` are what the order is by, ``moved`` compares it with the input's."""
    is_fused = any(r.fused is not None for r in ranking)
    numbers = ["rank", *(["fused"] if is_fused else []), *(["boost"] if is_boosted else []), "score", "moved"]
    columns = [*(Column(name, numeric=True) for name in numbers), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [
            r.rank,
            *([f"{r.fused:.2f}"] if r.fused is not None else []),
            *([f"{r.boost:+.2f}"] if is_boosted else []),
            f"{r.score:.4f}",
            move(r.input_index + 1, r.rank),
            r.passage.id,
            ("[retracted] " if r.retracted else "") + (_evidence_text(r) if r.evidence else _passage_text(r.passage)),
        ]
        for r in ranking
    ]
    return columns, rows


def tell_left_out(output: Output, ranking: Mapping[str, Any]) -> None:
    """Say which retracted articles, and which shards of the index, a ranking in JSON is without, if any."""
    pairs = zip(ranking.get("dropped", ()), ranking.get("drop_reasons", ()), strict=True)
    if ids := [id_ for id_, reason in pairs if reason == "retracted"]:
        output.note(f"Retracted, so left out: {', '.join(ids)}.")
    if missing := ranking.get("missing_shards"):
        output.warn(f"The result is partial: {', '.join(missing)} of the index did not answer.")


def _evidence_text(ranked: RankedPassage) -> str:
    """The best sentences of a passage, in the order of the text."""
    in_order = sorted(ranked.evidence, key=lambda sentence: sentence.start)
    return one_line(" … ".join(sentence.text for sentence in in_order))


def candidates_table(candidates: FoundCandidates) -> Table:
    """Lay out what the first stage found."""
    columns = [Column("rank", numeric=True), Column("score", numeric=True), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [c.rank, "" if c.score is None else f"{c.score:.4f}", c.passage.id, _passage_text(c.passage)]
        for c in candidates
    ]
    return columns, rows


@dataclass(frozen=True, slots=True)
class Source:
    """A passage below an answer: the number it is cited by, its citation, and its sentences that count, in order."""

    number: int
    reference: str
    passage: Passage
    evidence: tuple[Evidence, ...] = ()


def show_sources(output: Output, sources: Sequence[Source]) -> None:
    """Write sources: one line each in a pipe, with the evidence highlighted on a terminal."""
    console = output.console()
    for source in sources:
        reference = f"[{source.number}] {one_line(source.reference)}"
        if not console.is_terminal:
            output.line(reference)
            continue
        best = max((sentence.probability for sentence in source.evidence), default=None)
        console.print(Text.assemble("\n", (reference, "bold"), "" if best is None else f"  {bar(best)}"))
        console.print(Padding(highlighted(source.passage, source.evidence), (0, 0, 0, 4)))


def highlighted(passage: Passage, evidence: Sequence[Evidence], *, whole: bool = False) -> Text:
    """Return a passage, or only what stands around its evidence, as text in which the evidence stands out."""
    spans = sorted((sentence.start, sentence.end) for sentence in evidence)
    first = max(0, spans[0][0] - _AROUND) if spans and not whole else 0
    last = min(len(passage.text), spans[-1][1] + _AROUND) if spans and not whole else len(passage.text)
    text = Text("… " if first else "", style="dim")
    at = first
    for start, end in spans:
        text.append(_flat(passage.text[at:start]), style="dim")
        text.append(_flat(passage.text[start:end]), style="not dim bold yellow")
        at = end
    text.append(_flat(passage.text[at:last]), style="dim" if spans else "not dim")
    return text.append(" …") if last < len(passage.text) else text


def _flat(text: str) -> str:
    """Return text of a collection as it may be shown: line ends are blanks, control characters are visible."""
    return printable(text.replace("\r", " ").replace("\n", " ").replace("\t", " "))


def bar(probability: float) -> str:
    """Return a probability as a bar and a figure.

    >>> bar(0.5)
    '█████░░░░░ 0.50'
    """
    full = round(probability * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {probability:.2f}"
