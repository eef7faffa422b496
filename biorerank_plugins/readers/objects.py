"""JSON Lines of any kind: one object a line, each made into something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from biorerank_plugins.readers.detect import need_readable
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import parse_object
from biorerank_plugins.readers.report import Reading
from biorerank_plugins.readers.source import PathOrStream, source_of

_T = TypeVar("_T")


def read_objects(path: PathOrStream, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    """Read JSON Lines, gzipped or not; what ``parse`` refuses as :class:`Malformed` is named with file and line."""
    with source_of(path).open() as file:
        need_readable(file, "jsonl")
        return list(parse_lines(file, Reading(), lambda _, line: parse(parse_object(line))))
