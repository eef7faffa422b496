"""What a reader left out, and the rule it follows when it meets something malformed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath

from biorerank_plugins.errors import ReaderError

MAX_LISTED = 1_000
"""How many skipped lines a report lists; all of them are counted."""


class Malformed(Exception):
    """A line, record or file cannot become a passage; the message says why.

    It never leaves the readers: it becomes a :class:`ReaderError` or a :class:`SkippedLine`.
    """


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


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys or columns that hold a passage's fields; ``None``: whichever of the usual names is there.

    :param id: of the id.
    :param text: of the text.
    :param title: of the title.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None


USUAL_KEYS = Keys()


class Reading:
    """One run of a reader: where it reports to and whether it goes on after something malformed.

    :param report: filled as the reading goes on.
    :param skip: go on and note it; else raise.
    :param whole: long texts stay whole.
    :param keys: where rows and JSON objects keep what a passage is made of.
    """

    def __init__(
        self,
        report: ReadReport | None = None,
        *,
        skip: bool = False,
        whole: bool = False,
        keys: Keys = USUAL_KEYS,
    ) -> None:
        self.whole = whole
        self.keys = keys
        self.report = ReadReport() if report is None else report
        # id -> strict key of the BioASQ snippets given so far: equal snippets of different files are one passage too.
        self.snippets: dict[str, str] = {}
        self.repeated = 0
        self._skip = skip

    def progress(self) -> tuple[int, ...]:
        """Return counters of which one moves whenever something has been read."""
        return self.report.read, self.report.n_skipped, len(self.report.deleted), self.repeated

    @property
    def skips(self) -> bool:
        """Whether this reading goes on after something malformed."""
        return self._skip

    def leave_out(self, name: str) -> None:
        """Count a file that is of no kind that is read."""
        self.report.left_out[PurePath(name).suffix.lower() or "without a suffix"] += 1

    def bad(self, reason: object, path: str, line: int | None = None) -> None:
        """Note something malformed.

        :raises ReaderError: unless this reading skips what is malformed.
        """
        if not self._skip:
            raise ReaderError(str(reason), path, line)
        self.report.n_skipped += 1
        if len(self.report.skipped) < MAX_LISTED:
            self.report.skipped.append(SkippedLine(path, line, str(reason)))
