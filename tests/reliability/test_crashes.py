"""A writer is killed (SIGKILL) at its write steps: the old index is left or the new one, never a mixture."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crashes import OPERATIONS, SHARD_OPERATIONS, Nursery, compile_shim, points
from support.first_stage import FACTORIES, WordEncoder, collection

from biorerank_plugins.first_stage import PassageIndex

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Counts system calls where a C compiler is there, else the steps that Python sees."""
    folder = tmp_path_factory.mktemp("nursery")
    with Nursery(folder, shim=compile_shim(folder)) as nursery:
        yield nursery


def killed_at(nursery: Nursery, factory: str, operation: str, wanted: int) -> list[str]:
    """Return what each death left, in the order of the steps; the nursery fails on anything but old and new."""
    whole = nursery.ask(factory=factory, operation=operation)
    assert whole["state"] == "new"
    states = []
    for step in points(whole["steps"], wanted, seed=20):
        answer = nursery.ask(factory=factory, operation=operation, at=step)
        assert answer["killed"]
        states.append(answer["state"])
    return states


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_steps_of_every_operation(nursery: Nursery, operation: str) -> None:
    states = killed_at(nursery, "HNSW8" if operation == "compact" else "Flat", operation, wanted=5)
    assert states[0] == "old"
    assert states == sorted(states, reverse=True)  # all the old ones come before the new ones


@pytest.mark.parametrize("operation", SHARD_OPERATIONS)
def test_a_build_or_update_of_shards_that_was_killed_is_repeated(nursery: Nursery, operation: str) -> None:
    states = killed_at(nursery, "Flat", operation, wanted=8)
    assert states[0] == "old"
    assert states == sorted(states, reverse=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_step_of_every_operation(nursery: Nursery, operation: str, factory: str) -> None:
    states = killed_at(nursery, factory, operation, wanted=10**6)
    assert states == sorted(states, reverse=True)
    assert {"old", "new"} == set(states)  # something is still removed or synced after the switch


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_random_times(nursery: Nursery, operation: str) -> None:
    whole = nursery.ask(factory="Flat", operation=operation)["seconds"]
    chance = random.Random(operation)
    for _ in range(20):
        nursery.ask(factory="Flat", operation=operation, after=chance.random() * whole)


def test_everything_is_on_the_disk_before_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure only what was synced is there: so every file of a version is, before CURRENT names it."""
    index = PassageIndex.build(collection(40), encoder=WordEncoder(), factory="HNSW8")
    index.save(tmp_path / "index")
    synced: dict[int, bytes | None] = {}
    switches = []
    there = tmp_path / "index"
    real_sync, real_replace = os.fsync, os.replace

    def content(path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        synced[os.fstat(descriptor).st_ino] = content(Path(f"/proc/self/fd/{descriptor}"))

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == "CURRENT":
            [fresh] = {entry for entry in target.parent.glob("v*")} - before
            for path in (*fresh.iterdir(), fresh, Path(source), target.parent):
                assert synced[path.stat().st_ino] == content(path), path  # synced, and not changed since
            switches.append(fresh)
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    for change in (
        lambda: index.add(collection(5, start=900)),
        lambda: index.remove(["p1"]),
        lambda: index.save(there),
    ):
        before = set(there.glob("v*"))
        change()
    assert len(switches) == 3
