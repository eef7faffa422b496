"""Passages and questions from the files, folders and streams that a command is given."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

from biorerank_plugins.cli.one_line_errors import fail, usage_error
from biorerank_plugins.cli.option_groups import option
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.passages import Deletion, Passage
    from biorerank_plugins.readers import Query, ReadReport

STDIN = Path("-")
LINES = "lines"

SkipBad = Annotated[bool, option("Leave out malformed lines and say how many.", "--skip-bad")]

_HEAD = 1 << 16  # bytes; as many blanks at most are looked past for the first character on stdin
_LISTED = 5  # skipped lines shown one by one; the rest is a number


@dataclass(frozen=True, slots=True)
class HowToRead:
    """How a command was told to read its input files: as ``read_passages`` does, or with the format ``lines``."""

    format: Annotated[
        str,
        option(
            "auto, jsonl, bioasq, tsv, csv, xlsx, parquet, medline, ris, pubmed, europepmc, jats, bioc, text, "
            "html, docx, pdf, zip or lines.",
            metavar="FORMAT",
        ),
    ] = "auto"
    id_key: Annotated[str | None, option("Column or key of the id.", metavar="NAME")] = None
    text_key: Annotated[str | None, option("Column or key of the text.", metavar="NAME")] = None
    title_key: Annotated[str | None, option("Column or key of the title.", metavar="NAME")] = None
    encoding: Annotated[str | None, option("Of text that is not UTF-8, as windows-1252.", metavar="NAME")] = None
    skip_bad: SkipBad = False
    passages: str = "parts"

    def options(self) -> dict[str, Any]:
        """Return the options of ``read_passages``."""
        named = {name: getattr(self, name) for name in ("passages", "id_key", "text_key", "title_key", "encoding")}
        return {"format": self.format, "bad_lines": "skip" if self.skip_bad else "error", **named}

    def check(self, *more: str) -> None:
        """Refuse a format that is neither one of the library nor one of the command's own."""
        from biorerank_plugins.readers import FORMATS

        if self.format not in ("auto", *FORMATS, *more):
            known = ", ".join(("auto", *FORMATS, *more))
            usage_error(f"--format {self.format!r} is unknown. Choose one of: {known}.")


def read_collection(inputs: Sequence[Path], how: HowToRead, output: Output) -> Iterator[Passage]:
    """Give the passages of every input, in order; then tell what was skipped.

    A format that is none and an input that is not there are told at once, before anything is read.
    """
    from biorerank_plugins.readers.source import source_of

    how.check(LINES)
    for path in inputs:
        if path != STDIN:
            source_of(path)
    return _read_collection(inputs, how, output)


def _read_collection(inputs: Sequence[Path], how: HowToRead, output: Output) -> Iterator[Passage]:
    from biorerank_plugins.passages import Passage
    from biorerank_plugins.readers import ReadReport, read_passages

    report = ReadReport()
    if how.format == LINES:
        lines = (line for path in inputs for line in text_lines(path))
        yield from (Passage(str(number), line) for number, line in enumerate(lines, start=1))
        return
    for path in inputs:
        source = _named_stdin(required=not how.skip_bad) if path == STDIN else path
        yield from read_passages(source, report=report, **how.options())
    tell_skipped(report, output)
    if report.deleted:
        few = "1 deletion" if len(report.deleted) == 1 else f"{len(report.deleted)} deletions"
        output.warn(f"{few} in the files had no effect: biorerank index --update makes them in an index that is there.")


def read_changes(inputs: Sequence[Path], how: HowToRead, output: Output) -> Iterator[Passage | Deletion]:
    """Give what update files say, in order; then tell what was skipped."""
    from biorerank_plugins.readers import ReadReport, read_updates

    how.check()
    if STDIN in inputs:
        usage_error("--update reads files, in the order in which they are given; not stdin.")
    report = ReadReport()
    yield from read_updates(inputs, report=report, **how.options())
    tell_skipped(report, output)


def stdin_bytes() -> BinaryIO:
    """Return stdin; it is an error if there is none (``<&-``)."""
    if sys.stdin is None:
        fail("stdin is closed, so nothing can be read from it.")
    return sys.stdin.buffer


def _named_stdin(*, required: bool) -> BinaryIO:
    stdin = stdin_bytes()
    head = b""
    while not head.strip() and len(head) < _HEAD and (line := stdin.readline(_HEAD)):
        head += line
    if required and not head.strip() and len(head) < _HEAD:
        fail("stdin is empty; there is nothing to read.")
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


def read_questions(path: Path, output: Output, *, skip_bad: bool = False) -> list[Query]:
    """Read questions from a file, or plain lines from stdin; the id of a line is its number."""
    from biorerank_plugins.readers import Query, ReadReport, read_queries

    if path != STDIN:
        report = ReadReport()
        queries = read_queries(path, bad_lines="skip" if skip_bad else "error", report=report)
        tell_skipped(report, output)
        return queries
    questions = [Query(str(number), line) for number, line in enumerate(text_lines(path), start=1)]
    if not questions:
        fail("There are no questions on stdin; give one a line.")
    return questions


def text_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file or of stdin that are not blank, without white space around them."""
    try:
        text = (stdin_bytes().read() if path == STDIN else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError:
        fail(f"{'stdin' if path == STDIN else path} is not valid UTF-8 text.")
    return [line.strip() for line in text.split("\n") if line.strip()]


def tell_skipped(report: ReadReport, output: Output) -> None:
    """Warn about what a reader left out, if anything."""
    if report.left_out:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.left_out.most_common(_LISTED))
        more = "" if len(report.left_out) <= _LISTED else ", …"
        output.note(f"Of no kind that is read, and left out: {kinds}{more}.")
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
