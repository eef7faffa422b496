"""How ``biorerank ask`` looks: answers, and the passages they rest on with the evidence highlighted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from biorerank_plugins.cli.output import Output, one_line, printable

if TYPE_CHECKING:
    from biorerank_plugins.answers.quoted import Answer
    from biorerank_plugins.answers.written import WrittenAnswer
    from biorerank_plugins.passages import Evidence, Passage, Ranking

_AROUND = 240  # characters of a passage shown on each side of its evidence
_BAR = 10  # characters of a probability's bar


@dataclass(frozen=True, slots=True)
class Source:
    """A passage below an answer: the number it is cited by, its citation, and its sentences that count, in order."""

    number: int
    reference: str
    passage: Passage
    evidence: tuple[Evidence, ...] = ()


def sources_of(answer: Answer) -> list[Source]:
    """Return what an extractive answer quotes."""
    sentences: dict[int, list[Evidence]] = {}
    for quote in answer.quotes:
        sentences.setdefault(quote.number, []).append(quote.evidence)
    return [Source(c.number, c.text, c.passage, tuple(sentences[c.number])) for c in answer.citations]


def sources_cited(written: WrittenAnswer, ranking: Ranking) -> list[Source]:
    """Return what a written answer cites; their numbers are their places in the ranking."""
    from biorerank_plugins.answers.quoted import cite

    cited = [ranking[number - 1] for number in written.cited]
    return [Source(r.rank, cite(r.passage), r.passage, r.evidence[:1]) for r in cited]


def nothing(answer: Answer) -> str:
    """Say that nothing was found, and why."""
    return f"No evidence: {answer.why[:1].lower()}{answer.why[1:]}"


def show_nearest(output: Output, answer: Answer) -> None:
    """Write why there is no answer, and the passages to look at."""
    output.line(f"Not sure that the answer is here. {answer.why} Look yourself:")
    show_sources(output, [Source(c.number, c.text, c.passage) for c in answer.nearest])


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
    """Return a passage as text in which the evidence stands out.

    :param passage: the passage.
    :param evidence: sentences of it.
    :param whole: show all of it, not only what stands around the evidence.
    """
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


def stream_to_terminal(pieces: Iterator[str]) -> None:
    """Write the pieces of an answer as they come."""
    for piece in pieces:
        # Line ends are the model's own; anything else that drives a terminal is not wanted.
        sys.stdout.write("\n".join(printable(line) for line in piece.replace("\t", " ").split("\n")))
        sys.stdout.flush()
    sys.stdout.write("\n")
