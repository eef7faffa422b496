"""Shards in a folder: each is there as a whole or not at all, and what is there is not done again.

::

    folder/
      manifest.json             what is done here (the job), and, once it was finished, SHA-256 of every shard
      .lock                     held by the one run that works here
      00000000.safetensors      arrays of a shard; its header names its input and the SHA-256 of the arrays
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from biorerank_plugins._common.files import TEMPORARY, write_whole
from biorerank_plugins.errors import ShardError

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]

_MANIFEST = "manifest.json"
_FORMAT = 1
_NAME = re.compile(r"(\d{8})\.safetensors")


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a shard that is done.

    :param number: its number.
    :param count: number of items in it.
    :param input: fingerprint of what it was made from.
    :param sha256: of its arrays.
    """

    number: int
    count: int
    input: str
    sha256: str


class ShardFolder:
    """Shards of one job. Workers on many machines may write different shards of a shared folder at the same time.

    :param folder: where they are; made if it is not there.
    :param job: what is done with each shard, as JSON types: model, its hash, its settings. Shards of another job are
        never mixed with these.
    :raises ShardError: if the folder holds shards of another job, or something else.

    >>> shards = ShardFolder("work", {"model": "m"})                                        # doctest: +SKIP
    >>> shards.run(0, "fingerprint of the input", lambda: {"x": np.zeros(3)}).count          # doctest: +SKIP
    3
    """

    def __init__(self, folder: str | os.PathLike[str], job: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.job = json.loads(json.dumps(dict(job)))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _MANIFEST
        if not path.exists():
            strange = sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith("."))
            if strange:
                raise ShardError(f"{self.folder} exists and holds no shards (but {', '.join(strange[:3])}).")
            self._write_manifest({})
            return
        found = _read_manifest(path)
        if found.get("job") != self.job:
            there = found["job"]
            differing = sorted(name for name in {*there, *self.job} if there.get(name) != self.job.get(name))
            raise ShardError(
                f"{self.folder} holds shards of another job, which differs in: {', '.join(differing)}. "
                "Repeat that job, or use another folder."
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be the only run that works here; clean up what killed runs left.

        :raises ShardError: if another run is at work.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=1)
        except Timeout as error:
            raise ShardError(f"Another run is at work in {self.folder}.") from error
        with lock:
            for entry in self.folder.glob(f"{TEMPORARY}*"):
                entry.unlink(missing_ok=True)
            yield

    def run(self, number: int, input: str, make: Callable[[], Arrays]) -> ShardRecord:
        """Make a shard, unless it is done already.

        :param number: number of the shard.
        :param input: fingerprint of what it is made from.
        :param make: makes its arrays, all of the same length or with one named ``embeddings`` or ``logits`` that says
            how many items there are.
        :returns: what is known of the shard.
        :raises ShardError: if the shard was made from another input.
        """
        done = self.done(number, input)
        if done is not None:
            return done
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(values) for name, values in make().items()}
        record = ShardRecord(number, _count(arrays), input, _digest(arrays))
        about = {"count": str(record.count), "input": input, "sha256": record.sha256}
        write_whole(self.path(number), save(arrays, metadata=about))
        return record

    def done(self, number: int, input: str | None = None) -> ShardRecord | None:
        """Return what is known of a shard; ``None`` if it is not there or damaged.

        :param number: number of the shard.
        :param input: fingerprint that it must have.
        :raises ShardError: if it was made from another input.
        """
        found = self._read(number)
        if found is None:
            return None
        record, _ = found
        if input is not None and record.input != input:
            raise ShardError(
                f"Shard {number} in {self.folder} was made from another input. Use another folder, or remove this one."
            )
        return record

    def load(self, number: int) -> Arrays:
        """Return the arrays of a shard, whose checksum was compared.

        :raises ShardError: if it is not there or damaged.
        """
        found = self._read(number)
        if found is None:
            raise ShardError(f"Shard {number} in {self.folder} is missing or damaged. Run the job again.")
        return found[1]

    def finish(self, numbers: range) -> list[ShardRecord]:
        """Note in the manifest the checksums of all shards.

        :param numbers: all that there should be.
        :raises ShardError: if one is missing or damaged.
        """
        records = [self.done(number) for number in numbers]
        missing = [number for number, record in zip(numbers, records, strict=True) if record is None]
        if missing:
            raise ShardError(f"{len(missing)} shards are missing or damaged in {self.folder}, such as {missing[0]}.")
        whole = [record for record in records if record is not None]
        listed = {f"{r.number:08d}": {"count": r.count, "input": r.input, "sha256": r.sha256} for r in whole}
        self._write_manifest(listed)
        return whole

    def numbers(self) -> list[int]:
        """Return the numbers of the shards that are there, ascending."""
        matches = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match is not None)

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{number:08d}.safetensors"

    def _read(self, number: int) -> tuple[ShardRecord, Arrays] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(number), framework="numpy") as file:
                about = file.metadata() or {}
                arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}
            record = ShardRecord(number, int(about["count"]), about["input"], about["sha256"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return (record, arrays) if _digest(arrays) == record.sha256 else None

    def _write_manifest(self, shards: Mapping[str, Any]) -> None:
        content = {"format": _FORMAT, "job": self.job, "shards": shards}
        write_whole(self.folder / _MANIFEST, json.dumps(content, indent=2).encode())


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path} is damaged: {error}.") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("job"), dict):
        raise ShardError(f"{path} is no manifest of shards that this release reads.")
    return found


def _count(arrays: Arrays) -> int:
    leading = arrays.get("embeddings", arrays.get("logits"))
    return len(next(iter(arrays.values())) if leading is None else leading)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        digest.update(values.data if values.size else b"")
    return digest.hexdigest()
