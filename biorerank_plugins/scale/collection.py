"""Passages on their way to shards: read once, checked, kept in a file by row number."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from biorerank_plugins._common.files import write_whole
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.staging import OnDuplicate
from biorerank_plugins.passages import Passage, PassageLike, as_candidate

PASSAGES = "passages.sqlite"
_IDENTITY = "inputs.json"
_AT_ONCE = 4096


def stage_in_file(
    passages: Iterable[PassageLike], folder: Path, *, on_duplicate: OnDuplicate, identity: str | None = None
) -> Path:
    """Write passages to a catalog file, row 0, 1, 2, …; the ids need no memory, however many there are.

    :param passages: what to write; read once, or not at all if a run that was stopped had written the same already.
    :param folder: where the file is, or shall be.
    :param on_duplicate: ``"error"``, or ``"skip"`` to keep the first passage of an id.
    :param identity: what :func:`identity_of` says of the files that ``passages`` come from; ``None`` if nobody can say.
    :returns: the file.
    :raises ValueError: if a passage has no text, or an id comes twice.
    """
    if on_duplicate not in ("error", "skip"):
        raise ValueError(f"on_duplicate={on_duplicate!r} is unknown. Choose 'error' or 'skip'.")
    path, noted = folder / PASSAGES, folder / _IDENTITY
    if identity is not None and path.exists() and noted.exists() and json.loads(noted.read_bytes()) == identity:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".unfinished-{PASSAGES}"
    unfinished.unlink(missing_ok=True)
    noted.unlink(missing_ok=True)
    catalog = Catalog.create(unfinished)
    try:
        _insert(catalog, passages, on_duplicate)
    finally:
        catalog.close()
    os.replace(unfinished, path)
    if identity is not None:
        write_whole(noted, json.dumps(identity).encode())
    return path


def _insert(catalog: Catalog, passages: Iterable[PassageLike], on_duplicate: OnDuplicate) -> None:
    row = 0
    position = 0
    given = iter(passages)
    while chunk := list(islice(given, _AT_ONCE)):
        fresh = []
        for passage in _new(chunk, position, catalog, on_duplicate):
            fresh.append((row, passage))
            row += 1
        catalog.insert(fresh)
        position += len(chunk)


def _new(chunk: Sequence[PassageLike], start: int, catalog: Catalog, on_duplicate: OnDuplicate) -> Iterator[Passage]:
    passages = [as_candidate(item, position).passage for position, item in enumerate(chunk, start=start)]
    seen = set(catalog.find(passage.id for passage in passages))
    for position, passage in enumerate(passages, start=start):
        if not passage.text.strip():
            raise ValueError(
                f"Passage {passage.id!r} (position {position}, counted from 0) has no text. "
                "Leave it out, or put what there is, such as the title, into its text."
            )
        if passage.id not in seen:
            seen.add(passage.id)
            yield passage
        elif on_duplicate == "error":
            raise ValueError(
                f"Passage id {passage.id!r} at position {position} (counted from 0) is there already. "
                "Ids must be unique; on_duplicate='skip' keeps the first."
            )


def identity_of(paths: Sequence[Path], *settings: object) -> str:
    """Return a SHA-256 over names, sizes and times of files, and over how they are read.

    :param paths: files and folders.
    :param settings: whatever else decides which passages come out, as JSON types.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
        for file in files:
            about = file.stat()
            digest.update(json.dumps([str(file.resolve()), about.st_size, about.st_mtime_ns]).encode())
    return digest.hexdigest()
