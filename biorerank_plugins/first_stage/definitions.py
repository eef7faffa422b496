"""Which passages of an index define which abbreviations; what is asked in one form is found in the other too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from biorerank_plugins.first_stage.vectors import RowArray
from biorerank_plugins.text.abbreviations import Abbreviations

KINDS = {"defined_rows": "i8", "defined": "u1"}
"""Arrays of a saved index, and their types; one that an earlier release saved has none of them."""


class Definitions:
    """The abbreviations that passages define: ascending row numbers, and the short and long form of each."""

    def __init__(self, rows: RowArray, pairs: list[tuple[str, str]]) -> None:
        self.rows = rows
        same: dict[tuple[str, str], tuple[str, str]] = {}
        self.pairs = [same.setdefault(pair, pair) for pair in pairs]  # most come many times: each is held once

    @classmethod
    def none(cls) -> Definitions:
        """Return definitions of nothing."""
        return cls(np.empty(0, dtype=np.int64), [])

    @cached_property
    def abbreviations(self) -> Abbreviations:
        """What they say together."""
        return Abbreviations(self.pairs)

    def added(self, found: Iterable[tuple[int, tuple[str, str]]]) -> Definitions:
        """Return definitions that hold these too; their row numbers ascend, above those that are here."""
        listed = list(found)
        rows = np.fromiter((row for row, _ in listed), dtype=np.int64, count=len(listed))
        return Definitions(np.concatenate([self.rows, rows]), [*self.pairs, *(pair for _, pair in listed)])

    def without(self, rows: RowArray) -> Definitions:
        """Return the definitions of the other passages."""
        keep = ~np.isin(self.rows, rows)
        return Definitions(self.rows[keep], [pair for pair, kept in zip(self.pairs, keep, strict=True) if kept])

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return everything; :meth:`from_arrays` takes it back."""
        lines = "\n".join(f"{short}\t{long_form}" for short, long_form in self.pairs)
        return {"defined_rows": self.rows, "defined": np.frombuffer(lines.encode(), dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Definitions:
        """Return what :meth:`to_arrays` was called on; none where the arrays are missing."""
        if "defined" not in arrays:
            return cls.none()
        text = arrays["defined"].tobytes().decode()
        lines = text.split("\n") if text else []
        pairs = [(short, long_form) for short, long_form in (line.split("\t") for line in lines)]
        rows = arrays["defined_rows"]
        if len(rows) != len(pairs) or (np.diff(rows) < 0).any():
            raise ValueError("the definitions of abbreviations do not fit their rows.")
        return cls(rows, pairs)
