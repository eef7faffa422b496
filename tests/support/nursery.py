"""A process that imports everything once, and forks a child for every operation on an index, to be killed by SIGKILL.

Run as a program: one JSON request a line comes on stdin, one JSON reply a line goes to stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.crashes import OPERATIONS

tqdm.monitor_interval = 0  # no thread of tqdm's may hold its lock while a child is forked

_CHANGING = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree", "sqlite3.connect"}


class Cases:
    """One index of some type, every operation on it, and what each must leave.

    :param root: scratch folder.
    :param factory: FAISS type.
    """

    def __init__(self, root: Path, factory: str) -> None:
        from support.first_stage import collection

        self._root, self._factory = root / factory.replace(",", "-"), factory
        size = 300 if "IVF" in factory else 60  # as many as training needs
        self._passages = collection(size)
        self._more = collection(20, start=5000)
        # Made apart, and saved over a copy by the operation "save".
        self._other = self._made(collection(size + 10, start=9000))
        self.pristine = self._root / "pristine"
        with self._made(self._passages) as index:
            index.save(self.pristine)
        self.old = self._signature(self.pristine)
        self.new = {operation: self._finished(operation) for operation in OPERATIONS}

    def _made(self, passages: list[Any]) -> Any:
        from biorerank_plugins.first_stage import PassageIndex
        from support.first_stage import WordEncoder

        return PassageIndex.build(passages, encoder=WordEncoder(), factory=self._factory)

    def _load(self, folder: Path) -> Any:
        from biorerank_plugins.first_stage import PassageIndex
        from support.first_stage import WordEncoder

        return PassageIndex.load(folder, encoder=WordEncoder())

    def _signature(self, folder: Path) -> Any:
        """Everything that can be asked of a saved index; ``None`` where there is none."""
        if not (folder / "CURRENT").exists():
            return None
        with self._load(folder) as index:
            queries = ["w1 w2 w3", "w400 w20", index_text(index)]
            found = [
                [(hit.passage.id, hit.score) for hit in hits]
                for stage in ("dense", "lexical", "hybrid")
                for hits in index.search_many(queries, 50, first_stage=stage)
            ]
            passages = [passage.to_dict() for passage in index.passages()]
            return json.loads(json.dumps([len(index), index.factory, passages, found]))

    def _before(self, operation: str) -> Any:
        """What is there before an operation; nothing before a build."""
        return None if operation == "build" else self.old

    def _finished(self, operation: str) -> Any:
        folder = self._copy(operation)
        self.perform(operation, folder)
        signature = self._signature(folder)
        shutil.rmtree(folder.parent)
        if signature == self._before(operation):
            raise AssertionError(f"{operation} changes nothing, so its test would show nothing")
        return signature

    def _copy(self, operation: str) -> Path:
        folder = self._root / "victim" / "index"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir(parents=True)
        if operation != "build":
            shutil.copytree(self.pristine, folder)
        return folder

    def perform(self, operation: str, folder: Path) -> None:
        """Do it, without being killed unless somebody has armed something."""
        if operation == "build":
            self._made(self._passages).save(folder)
        elif operation == "save":
            self._other.save(folder)
        else:
            with self._load(folder) as index:
                if operation == "add":
                    index.add(self._more)
                elif operation == "remove":
                    index.remove(["p3", "p17"])
                else:
                    index.remove([passage.id for passage in self._passages[::2]])

    def kill(self, operation: str, at: int | None, after: float | None) -> dict[str, Any]:
        """Perform an operation in a child that is killed, and judge what is left.

        :param at: kill it at the n-th step that changes files; ``None`` counts the steps and kills nobody.
        :param after: kill it after so many seconds instead.
        :returns: ``steps`` that were made, ``seconds``, whether it was ``killed``, which ``state`` is left.
        :raises AssertionError: if that is neither the old nor the new state, or stops the next writer.
        """
        folder = self._copy(operation)
        started = time.perf_counter()
        steps, killed = _in_a_child(lambda: self.perform(operation, folder), at, after)
        seconds = time.perf_counter() - started
        old = self._before(operation)
        try:
            left = self._signature(folder)
        except Exception as error:
            raise AssertionError(f"{operation} killed at {at or after}: {error!r}") from error
        if left not in (old, self.new[operation]):
            raise AssertionError(f"{operation} killed at {at or after}: a mixture is left")
        if not killed and left != self.new[operation]:
            raise AssertionError(f"{operation} was not killed and yet is not done")
        self._next_writer(folder, left)
        state = "new" if left == self.new[operation] else "old"
        return {"steps": steps, "seconds": seconds, "killed": killed, "state": state}

    def _next_writer(self, folder: Path, left: Any) -> None:
        from support.first_stage import collection

        if left is None:
            self._made(self._passages).save(folder)
        extra = collection(1, start=7000)
        with self._load(folder) as index:
            index.add(extra)
        with self._load(folder) as index:
            expected = (len(self._passages) if left is None else left[0]) + 1
            if len(index) != expected or index.get(extra[0].id) is None:
                raise AssertionError("what the next writer wrote is not there")
        current = json.loads((folder / "CURRENT").read_text())["version"]
        names = {entry.name for entry in folder.iterdir()}
        if names - {".lock"} != {"CURRENT", current}:
            raise AssertionError(f"the next writer leaves {sorted(names)}")


def index_text(index: Any) -> str:
    """Words of the first passage: a query that finds something on every side."""
    return str(next(index.passages()).text)


def _in_a_child(action: Callable[[], None], at: int | None, after: float | None) -> tuple[int, bool]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # Forked processes share tqdm's lock, which bm25s takes: killed with it, a child would stop this process.
            tqdm.set_lock(threading.RLock())
            with _counted(at) as count:
                action()
                steps = count()  # before the pipe below is written to
            os.write(writing, str(steps).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        steps = int(pipe.read() or -1)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status != 0:
        raise AssertionError(f"the child failed by itself: status {status}")
    return steps, killed


@contextmanager
def _counted(fatal: int | None) -> Iterator[Callable[[], int]]:
    """Count the steps that change files, and die at one of them."""
    shim = ctypes.CDLL(None)
    if hasattr(shim, "shim_arm"):
        shim.shim_arm(ctypes.c_long(fatal or 0))
        yield shim.shim_calls
        return
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGING or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            step()

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        step()
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(audit)
    yield lambda: steps


def _serve(root: Path) -> None:
    from support.shards import ShardCases

    cases: dict[str, Any] = {}
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but replies goes to stdout
    for line in sys.stdin:
        request = json.loads(line)
        try:
            factory, operation = request["factory"], request["operation"]
            key = f"{'' if operation in OPERATIONS else 'sharded '}{factory}"
            if key not in cases:
                cases[key] = Cases(root, factory) if key == factory else ShardCases(root, factory)
            answer: Any = cases[key].kill(operation, request.get("at"), request.get("after"))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
