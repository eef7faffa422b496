"""Builds by way of shards that are killed: no index or the whole one is left, and the call can be repeated."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from support.crashes import SHARD_OPERATIONS
from support.nursery import _in_a_child

QUERIES = ["w1 w2 w3", "w400 w20", "w7"]


class ShardCases:
    """Two builds: a sharded index, and one index by way of embedded shards.

    :param root: scratch folder.
    :param factory: FAISS type of every index.
    """

    def __init__(self, root: Path, factory: str) -> None:
        from support.first_stage import collection

        self._folder, self._factory = root / "sharded" / "index", factory
        self._passages, self._more = collection(60), collection(5, start=900)
        self._old: dict[str, Any] = {}
        self.new = {operation: self._finished(operation) for operation in SHARD_OPERATIONS}

    def _perform(self, operation: str) -> None:
        from biorerank_plugins.scale import ShardedIndex, build_index
        from support.first_stage import WordEncoder

        given: dict[str, Any] = {"encoder": WordEncoder(), "factory": self._factory}
        if operation == "shard update":
            from biorerank_plugins.passages import Deletion

            with ShardedIndex.load(self._folder, encoder=WordEncoder()) as index:
                index.update([Deletion("p3"), Deletion("p4"), *self._more])
        elif operation == "shards":
            ShardedIndex.build(self._passages, self._folder, shards=3, **given).close()
        else:
            build_index(self._passages, self._folder, shard_size=20, **given).close()

    def _signature(self) -> Any:
        """Everything that can be asked of the index; ``None`` where there is none."""
        from biorerank_plugins.scale import open_index
        from support.first_stage import WordEncoder

        if not any((self._folder / name).exists() for name in ("CURRENT", "shards.json")):
            return None
        with open_index(self._folder, encoder=WordEncoder()) as index:
            found = [
                [(hit.passage.id, hit.score) for hit in hits]
                for stage in ("dense", "lexical", "hybrid")
                for hits in index.search_many(QUERIES, 50, first_stage=stage)
            ]
            passages = sorted((passage.to_dict() for passage in index.passages()), key=lambda one: str(one["id"]))
            return json.loads(json.dumps([len(index), passages, found]))

    def _begin(self, operation: str) -> None:
        """Make what is there before an operation: nothing, or a sharded index."""
        shutil.rmtree(self._folder.parent, ignore_errors=True)
        self._folder.parent.mkdir(parents=True)
        if operation == "shard update":
            self._perform("shards")
            self._old[operation] = self._signature()

    def _finished(self, operation: str) -> Any:
        self._begin(operation)
        self._perform(operation)
        return self._signature()

    def kill(self, operation: str, at: int | None, after: float | None) -> dict[str, Any]:
        """Build in a child that is killed, judge what is left, and build again; as ``Cases.kill``."""
        self._begin(operation)
        old = self._old.get(operation)
        started = time.perf_counter()
        steps, killed = _in_a_child(lambda: self._perform(operation), at, after)
        seconds = time.perf_counter() - started
        try:
            left = self._signature()
            if left == old:
                self._perform(operation)
        except Exception as error:
            raise AssertionError(f"{operation} killed at {at or after}: {error!r}") from error
        if left not in (old, self.new[operation]):
            raise AssertionError(f"{operation} killed at {at or after}: a part of an index is left")
        if not killed and left == old:
            raise AssertionError(f"{operation} was not killed and yet is not done")
        if self._signature() != self.new[operation]:
            raise AssertionError(f"{operation} killed at {at or after}: repeated, it gives something else")
        return {"steps": steps, "seconds": seconds, "killed": killed, "state": "old" if left == old else "new"}
