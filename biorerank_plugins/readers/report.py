"""What a reader left out, and the rule it follows when it meets something malformed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from biorerank_plugins.errors import ReaderError

MAX_LISTED = 1_000
"""How many skipped lines a report lists; all of them are counted."""


class Malformed(Exception):
    """A line, record or file cannot become a passage; outside it is a :class:`ReaderError` or :class:`SkippedLine`."""


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """Something that was left out.

    :param path: the file.
    :param line: line (or record) number in it, counted from 1; ``None`` if the whole file was left out.
    :param reason: what is wrong with it.
    """

    path: str
    line: int | None
    reason: str


@dataclass(slots=True)
class ReadReport:
    """Filled while a reader runs; complete when its iterator is exhausted.

    :param read: number of passages given.
    :param skipped: what was left out, the first 1,000.
    :param deleted: PMIDs that PubMed files tell to delete, in the order met.
    :param n_skipped: how many were left out in all.
    :param left_out: files of folders and archives that are of no kind that is read: how many of each suffix.
    """

    read: int = 0
    skipped: list[SkippedLine] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    n_skipped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Reading:
    """One run of a reader: where it reports to, and what the caller asked for."""

    report: ReadReport = field(default_factory=ReadReport)
    skips: bool = False  # note what is malformed and go on; else raise
    whole: bool = False  # long texts stay whole
    # What the caller calls the id, text or title of a row; a field that is not there has one of the usual names.
    keys: Mapping[str, str] = field(default_factory=dict)
    # id -> strict key of the BioASQ snippets given so far: equal snippets of different files are one passage too.
    snippets: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    def progress(self) -> tuple[int, ...]:
        """Return counters of which one moves whenever something has been read."""
        return self.report.read, self.report.n_skipped, len(self.report.deleted), self.repeated

    def leave_out(self, name: str) -> None:
        """Count a file that is of no kind that is read."""
        self.report.left_out[PurePath(name).suffix.lower() or "without a suffix"] += 1

    def noting(self, path: str, line: int | None = None, about: str = "") -> _Noting:
        """Return a block that notes what turns out to be malformed in it, as ``about``, and goes on behind it."""
        return _Noting(self, path, line, about)

    def bad(self, reason: object, path: str, line: int | None = None) -> None:
        """Note something malformed; raise :class:`ReaderError` where nothing is skipped."""
        if not self.skips:
            raise ReaderError(str(reason), path, line)
        self.report.n_skipped += 1
        if len(self.report.skipped) < MAX_LISTED:
            self.report.skipped.append(SkippedLine(path, line, str(reason)))


class _Noting:
    # Made for every line: contextlib.contextmanager would take a sixth of the time of reading one.
    __slots__ = ("_about", "_line", "_path", "_reading")

    def __init__(self, reading: Reading, path: str, line: int | None, about: str) -> None:
        self._reading, self._path, self._line, self._about = reading, path, line, about

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, problem: object, trace: object) -> bool:
        if isinstance(problem, Malformed):
            self._reading.bad(f"{self._about}{problem}", self._path, self._line)
            return True
        return False


def said(error: BaseException) -> str:
    """Return what a library said of a damaged file, on one line and not too long."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
