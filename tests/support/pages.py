"""Pages of the documentation as a reader meets them: their blocks in order, and what each is said to print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import ROOT

__all__ = ["PAGES", "RUN", "Block", "blocks_of", "differences"]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "bash")
"""Languages of blocks that are run."""
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+)?")
_ANYTHING = "…"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    :param language: as the fence names it.
    :param code: what is in it.
    :param line: of the page, where it begins.
    :param reason: why it is not run, in the comment above it; ``None`` for a block that is.
    :param output: what the block right after it says that it prints; ``None`` if none does.
    """

    language: str
    code: str
    line: int
    reason: str | None = None
    output: str | None = None


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order; a block of output belongs to the one that it follows."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        block = Block(
            match["language"], match["code"], text.count("\n", 0, match.start("code")), reason=match["reason"]
        )
        follows = bool(found) and not text[end : match.start()].strip()
        if block.language in ("text", "console") and follows and found[-1].language in RUN:
            found[-1] = Block(found[-1].language, found[-1].code, found[-1].line, found[-1].reason, block.code)
        else:
            found.append(block)
        end = match.end()
    return found


def differences(shown: str, printed: str) -> str | None:
    """Return how what was printed differs from what a page shows; ``None`` if it does not.

    ``…`` stands for anything, over lines too; numbers with a decimal point may differ by 0.02 or 5 %.

    >>> differences("a … 0.81", "a few 0.80")
    >>> differences("two", "three")
    'shown:\\ntwo\\nprinted:\\nthree'
    """
    wanted, got = _even(shown), _even(printed)
    numbers: list[str] = []
    pattern = "".join(_as_pattern(wanted, numbers))
    match = re.fullmatch(pattern, got, re.DOTALL)
    if match is not None and all(_near(number, value) for number, value in zip(numbers, match.groups(), strict=True)):
        return None
    return f"shown:\n{wanted}\nprinted:\n{got}"


def _even(text: str) -> str:
    """Without white space at the ends of lines, and with one kind of it between words: tables shift with a digit."""
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line)


def _as_pattern(text: str, numbers: list[str]) -> Iterator[str]:
    for piece in re.split(f"({_ANYTHING}|{_NUMBER.pattern})", text):
        if piece == _ANYTHING:
            yield ".*?"
        elif _NUMBER.fullmatch(piece) and "." in piece:
            numbers.append(piece)
            yield r"([+-]?[\d,.]+(?:e-?\d+)?)"
        else:
            yield re.escape(piece)


def _near(one: str, other: str) -> bool:
    first, second = float(one.replace(",", "")), float(other.replace(",", ""))
    return abs(first - second) <= max(0.02, 0.05 * abs(first))
