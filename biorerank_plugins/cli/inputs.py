"""Passages and questions from the files, folders and streams that a command is given."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, cast

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.passages import Deletion, Passage
    from biorerank_plugins.readers import Query, ReadReport

STDIN = Path("-")
LINES = "lines"

Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="auto, jsonl, bioasq, tsv, csv, medline, ris, text, pubmed, pdf or lines."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out malformed lines and say how many.")]

_HEAD = 1 << 16  # bytes; as many blanks at most are looked past for the first character on stdin
_LISTED = 5  # skipped lines shown one by one; the rest is a number


def read_collection(
    inputs: Sequence[Path], *, format: str, skip_bad: bool, output: Output, whole: bool = False
) -> Iterator[Passage]:
    """Give the passages of every input, in order; then tell what was skipped.

    A format that is none and an input that is not there are told at once, before anything is read.

    :param inputs: files, folders, or ``-`` for stdin.
    :param format: a format of :func:`~biorerank_plugins.readers.read_passages`, or ``lines``: a passage a line.
    :param whole: long text files stay whole.
    """
    from biorerank_plugins.readers import FORMATS
    from biorerank_plugins.readers.source import source_of

    if format not in ("auto", *FORMATS, LINES):
        _common.usage_error(f"--format {format!r} is unknown. Choose one of: auto, {', '.join(FORMATS)}, {LINES}.")
    for path in inputs:
        if path != STDIN:
            source_of(path)
    return _read_collection(inputs, format, skip_bad, output, whole)


def _read_collection(
    inputs: Sequence[Path], format: str, skip_bad: bool, output: Output, whole: bool
) -> Iterator[Passage]:
    from biorerank_plugins.passages import Passage
    from biorerank_plugins.readers import ReadReport, read_passages

    report = ReadReport()
    if format == LINES:
        lines = (line for path in inputs for line in text_lines(path))
        yield from (Passage(str(number), line) for number, line in enumerate(lines, start=1))
        return
    bad_lines: Literal["skip", "error"] = "skip" if skip_bad else "error"
    passages: Literal["whole", "parts"] = "whole" if whole else "parts"
    for path in inputs:
        source = _named_stdin(required=not skip_bad) if path == STDIN else path
        yield from read_passages(source, format=format, bad_lines=bad_lines, report=report, passages=passages)
    tell_skipped(report, output)
    if report.deleted:
        few = "1 deletion" if len(report.deleted) == 1 else f"{len(report.deleted)} deletions"
        output.warn(f"{few} in the files had no effect: biorerank index --update makes them in an index that is there.")


def read_changes(
    inputs: Sequence[Path], *, format: str, skip_bad: bool, output: Output
) -> Iterator[Passage | Deletion]:
    """Give what update files say, in order; then tell what was skipped."""
    from biorerank_plugins.readers import FORMATS, ReadReport, read_updates

    if format not in ("auto", *FORMATS):
        _common.usage_error(f"--format {format!r} is none of: auto, {', '.join(FORMATS)}.")
    if STDIN in inputs:
        _common.usage_error("--update reads files, in the order in which they are given; not stdin.")
    report = ReadReport()
    yield from read_updates(inputs, format=format, bad_lines="skip" if skip_bad else "error", report=report)
    tell_skipped(report, output)


def stdin_bytes() -> BinaryIO:
    """Return stdin; it is an error if there is none (``<&-``)."""
    if sys.stdin is None:
        _common.fail("stdin is closed, so nothing can be read from it.")
    return sys.stdin.buffer


def _named_stdin(*, required: bool) -> BinaryIO:
    stdin = stdin_bytes()
    head = b""
    while not head.strip() and len(head) < _HEAD and (line := stdin.readline(_HEAD)):
        head += line
    if required and not head.strip() and len(head) < _HEAD:
        _common.fail("stdin is empty; there is nothing to read.")
    return cast(BinaryIO, _Stdin(head, stdin))


class _Stdin(io.RawIOBase):
    """The bytes of stdin, whose beginning was looked at; errors call it by its name."""

    name = "stdin"

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head = head
        self._rest = cast(io.BufferedReader, rest)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        size = len(buffer)
        given = self._head[:size] or self._rest.read1(size)
        self._head = self._head[size:]
        buffer[: len(given)] = given
        return len(given)


def read_questions(path: Path) -> list[Query]:
    """Read questions from a file, or plain lines from stdin; the id of a line is its number."""
    from biorerank_plugins.readers import Query, read_queries

    if path != STDIN:
        return read_queries(path)
    questions = [Query(str(number), line) for number, line in enumerate(text_lines(path), start=1)]
    if not questions:
        _common.fail("There are no questions on stdin; give one a line.")
    return questions


def text_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file or of stdin that are not blank, without white space around them."""
    try:
        text = (stdin_bytes().read() if path == STDIN else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError:
        _common.fail(f"{'stdin' if path == STDIN else path} is not valid UTF-8 text.")
    return [line.strip() for line in text.split("\n") if line.strip()]


def tell_skipped(report: ReadReport, output: Output) -> None:
    """Warn about what a reader left out, if anything."""
    if report.n_skipped == 0:
        return
    few = report.n_skipped == 1
    what = "malformed line or file was" if few else "malformed lines or files were"
    output.warn(f"{report.n_skipped} {what} left out.")
    for skipped in report.skipped[:_LISTED]:
        place = skipped.path if skipped.line is None else f"{skipped.path}:{skipped.line}"
        output.note(f"  {place}: {skipped.reason}")
    if report.n_skipped > _LISTED:
        output.note(f"  … and {report.n_skipped - _LISTED} more")
