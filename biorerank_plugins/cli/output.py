"""Where a command writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

Rows: TypeAlias = Iterable[Sequence[object]]
PIPE_WIDTH = 100  # characters, for text layouts where no terminal says how wide it is

# C0, DEL and C1, which drive a terminal, and the signs that turn the direction of what follows.
_CONTROLS = (
    (0x00, 0x1F), (0x7F, 0x9F), (0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069),
)  # fmt: skip
_REPLACED = {code: "\ufffd" for first, last in _CONTROLS for code in range(first, last + 1)}


def printable(text: str) -> str:
    """Replace control characters by U+FFFD: what comes from a collection must not drive the terminal.

    >>> printable("a\\x1b[2Jb")
    'a�[2Jb'
    """
    return text.translate(_REPLACED)


def one_line(value: object) -> str:
    """Return a value as the text of one cell: one line without control characters."""
    return printable(" ".join(str(value).split()))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a numeric one is set to the right, a wide one takes the room that is left, and may wrap."""

    name: str
    numeric: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """The two streams of a command; its results are JSON documents, or else tables and lines."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress bars.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False

    @property
    def show_progress(self) -> bool:
        """Whether progress bars make sense: somebody is watching."""
        return not self.quiet and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Tell on stderr what is going on."""
        if not self.quiet:
            Console(stderr=True, soft_wrap=True, highlight=False).print(printable(text), markup=False, style="dim")

    def warn(self, text: str) -> None:
        """Tell on stderr what the user must know, even if quiet."""
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"Warning: {printable(text)}", markup=False, style="yellow")

    def line(self, text: str = "") -> None:
        """Write one line of result."""
        if not self.json:
            sys.stdout.write(f"{printable(text)}\n")

    def document(self, value: Any, *, indent: int | None = 2) -> None:
        """Write a JSON document (one line if ``indent`` is ``None``), if that is what results are."""
        if self.json:
            ascii_only = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
            sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False) + "\n")

    def table(self, columns: Sequence[Column], rows: Rows, *, query: str | None = None, first: bool = True) -> None:
        """Write a table: laid out on a terminal, tab-separated with a heading line in a pipe.

        Each of several queries' tables has its query above it; in a pipe they are one table, with it as first column.
        """
        if self.json:
            return
        console = Console()
        if console.is_terminal:
            if query is not None:
                console.print(one_line(query), style="bold", markup=False, highlight=False)
            console.print(rich_table(columns, rows))
            return
        head, lead = ([], []) if query is None else (["query"], [query])
        lines: list[list[object]] = [[*head, *(column.name for column in columns)]] if first else []
        lines += ([*lead, *row] for row in rows)
        for line in lines:
            sys.stdout.write("\t".join(one_line(cell) for cell in line) + "\n")

    def console(self) -> Console:
        """Return a console on stdout for free layouts; 100 characters wide in a pipe, unless COLUMNS says otherwise."""
        console = Console(highlight=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = PIPE_WIDTH
        return console


def save_json(value: Any, path: Path | None) -> None:
    """Write a JSON document to a file, if one is named."""
    if path is not None:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lists(orders: Mapping[str, Sequence[str]], out: Path, output: Output, **more: int) -> None:
    """Write the ids of each question's passages, best first, as a run, and tell what is in it (JSON: ``more`` too)."""
    from biorerank_plugins.evaluation import run_from_order, write_run

    write_run(run_from_order(orders), out)
    count = sum(map(len, orders.values()))
    output.document({"file": str(out), "queries": len(orders), "passages": count, **more})
    output.note(f"{out}: {len(orders):,} questions, {count:,} passages.")


def rich_table(columns: Sequence[Column], rows: Rows) -> Table:
    """Lay out a table for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            ratio=1 if column.wide else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
