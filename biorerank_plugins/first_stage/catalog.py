"""The passages of an index, in SQLite: text, title and metadata by row, found by id or by filter."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.filter_conditions import LOWER, SqlCondition, lower
from biorerank_plugins.passages import Passage

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.vectors import RowArray

_SCHEMA = """
CREATE TABLE passages (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, title TEXT,
                       metadata TEXT NOT NULL);
CREATE TABLE dead_rows (row INTEGER PRIMARY KEY);
"""
_COLUMNS = "id, text, title, metadata"
_ID_IS_ONE_OF = "id IN (SELECT value FROM json_each(?))"
DAMAGED = "The index is damaged: load it with verify='full', which says where, or build it again."


class Catalog:
    """Passages by row; a row number is never given to a second passage while vectors refer to it.

    One connection behind one lock: what a search asks of it takes well under a millisecond.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    def __del__(self) -> None:
        self._connection.close()

    @classmethod
    def in_memory(cls) -> Catalog:
        """Return an empty catalog that lives in memory."""
        catalog = cls(_connect(":memory:"))
        catalog._connection.executescript(_SCHEMA)
        return catalog

    @classmethod
    def create(cls, path: Path) -> Catalog:
        """Make an empty catalog in a new file; after a crash half-way the file is of no use."""
        path.touch(exist_ok=False)
        catalog = cls(_connect(f"{path.resolve().as_uri()}?mode=rw"))
        catalog._connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        return catalog

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Catalog:
        """Open a catalog file; unless ``writable``, nobody changes it while it is open: versions are never edited.

        :raises PassageIndexError: if it is no catalog.
        """
        mode = "mode=rw" if writable else "mode=ro&immutable=1"
        try:
            connection = _connect(f"{path.resolve().as_uri()}?{mode}")
            try:
                connection.execute("SELECT row, id, text, title, metadata FROM passages LIMIT 1").fetchone()
                connection.execute("SELECT row FROM dead_rows LIMIT 1").fetchone()
            except sqlite3.Error:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise PassageIndexError(f"{path} is no passage catalog: {error}.") from error
        if writable:
            # The file is new and belongs to no version yet; storage syncs it before anybody may see it.
            connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        return cls(connection)

    def __len__(self) -> int:
        count: int = self._query("SELECT count(*) FROM passages")[0][0]
        return count

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several changes one: on any exception, Ctrl-C included, none of them happened."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def insert(self, rows: Iterable[tuple[int, Passage]]) -> None:
        """Add passages by row number; all of them or, if one is not JSON or no Unicode text, none."""
        with self.transaction():
            statement = f"INSERT INTO passages (row, {_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
            for row, passage in rows:
                self._connection.execute(statement, (row, *_columns_of(passage)))

    def delete(self, rows: Iterable[int]) -> None:
        """Remove passages by row number."""
        with self.transaction():
            self._connection.executemany("DELETE FROM passages WHERE row = ?", ((int(row),) for row in rows))

    def set_dead_rows(self, rows: Iterable[int]) -> None:
        """Note which rows have no passage any more while their vectors are still there."""
        with self.transaction():
            self._connection.execute("DELETE FROM dead_rows")
            self._connection.executemany("INSERT INTO dead_rows (row) VALUES (?)", ((int(row),) for row in rows))

    def copy_to(self, path: Path) -> None:
        """Write the whole catalog to a new file."""
        path.touch(exist_ok=False)
        with closing(_connect(f"{path.resolve().as_uri()}?mode=rw")) as target, self._lock:
            target.execute("PRAGMA synchronous = OFF")
            self._connection.backup(target)

    def fetch(self, rows: Sequence[int]) -> dict[int, Passage]:
        """Return the passages of these rows."""
        sql = f"SELECT row, {_COLUMNS} FROM passages WHERE row IN (SELECT value FROM json_each(?))"
        found = self._query(sql, (json.dumps([int(row) for row in rows]),))
        return {row: _passage_of(*record) for row, *record in found}

    def in_order(self, rows: Sequence[int]) -> list[Passage]:
        """Return the passages of these rows, in their order."""
        found = self.fetch(rows)
        return [found[row] for row in rows]

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the row of every id that is there."""
        return dict(self._query(f"SELECT id, row FROM passages WHERE {_ID_IS_ONE_OF}", (json.dumps(list(ids)),)))

    def with_ids(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return the passage of every id that is there."""
        found = self._query(f"SELECT {_COLUMNS} FROM passages WHERE {_ID_IS_ONE_OF}", (json.dumps(list(ids)),))
        return {id_: _passage_of(id_, *others) for id_, *others in found}

    def rows_of(self, ids: Sequence[str], missing: Literal["error", "skip"]) -> RowArray:
        """Return the row numbers of these different ids, ascending.

        :raises ValueError: if an id is not there and ``missing`` is ``"error"``.
        """
        if missing not in ("error", "skip"):
            raise ValueError(f"missing={missing!r} is unknown. Choose 'error' or 'skip'.")
        found = self.find(ids)
        absent = [id_ for id_ in ids if id_ not in found]
        if absent and missing == "error":
            raise ValueError(f"{len(absent)} ids are not in the index: {', '.join(map(repr, absent[:5]))}.")
        return np.sort(np.fromiter(found.values(), dtype=np.int64, count=len(found)))

    def rows(self, condition: SqlCondition | None = None) -> RowArray:
        """Return the row numbers of all passages, or of those that meet a condition, ascending."""
        where, parameters = ("1", ()) if condition is None else (condition.sql, condition.parameters)
        return self._rows(f"SELECT row FROM passages WHERE {where} ORDER BY row", parameters)

    def dead_rows(self) -> RowArray:
        """Return the row numbers whose passages are gone while their vectors are still there, ascending."""
        return self._rows("SELECT row FROM dead_rows ORDER BY row")

    def passages(self, batch_size: int = 1024) -> Iterator[tuple[int, Passage]]:
        """Yield row and passage in insertion order, reading ``batch_size`` at a time."""
        last = -1
        while True:
            sql = f"SELECT row, {_COLUMNS} FROM passages WHERE row > ? ORDER BY row LIMIT ?"
            found = self._query(sql, (last, batch_size))
            for row, *record in found:
                yield row, _passage_of(*record)
            if len(found) < batch_size:
                return
            last = found[-1][0]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> RowArray:
        found = self._query(sql, parameters)
        return np.fromiter((row for (row,) in found), dtype=np.int64, count=len(found))

    def _query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except (sqlite3.DatabaseError, OverflowError) as error:
            if isinstance(error, sqlite3.ProgrammingError):  # closed: a mistake in the program, not in the data
                raise
            raise PassageIndexError(f"The passages of the index cannot be read: {error}. {DAMAGED}") from error


def _connect(target: str) -> sqlite3.Connection:
    connection = sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.create_function(LOWER, 1, lower, deterministic=True)
    return connection


def _columns_of(passage: Passage) -> tuple[str, str, str | None, str]:
    """Return what is stored of a passage, in the order of :data:`_COLUMNS`."""
    fields = passage.to_dict()
    try:
        metadata = json.dumps(fields["metadata"], ensure_ascii=False, allow_nan=False)
        for text in (passage.id, passage.text, passage.title or "", metadata):
            text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Passage {passage.id!r} holds text that is not valid Unicode: {error}.") from error
    except (TypeError, ValueError) as error:
        key = _first_bad_key(fields["metadata"])
        raise ValueError(
            f"The metadata of passage {passage.id!r} cannot be stored as JSON{key}: {error}. "
            "Use strings, finite numbers, booleans, None, lists and mappings."
        ) from error
    return passage.id, passage.text, passage.title, metadata


def _first_bad_key(metadata: Mapping[str, Any]) -> str:
    """Return which key JSON has no form for, with a value that is not finite; empty where the whole is at fault."""
    for key, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            shown = f" is {value}" if isinstance(value, float) and not math.isfinite(value) else ""
            return f" (key {key!r}{shown})"
    return ""


def _passage_of(id_: str, text: str, title: str | None, metadata: str) -> Passage:
    try:
        return Passage(id_, text, title, json.loads(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise PassageIndexError(f"Passage {id_!r} cannot be read: {error}. {DAMAGED}") from error
