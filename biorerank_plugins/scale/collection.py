"""Passages on their way to shards: read once, checked, kept in a file by row number."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from biorerank_plugins._common.files import TEMPORARY, write_whole
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.staging import OnDuplicate, fill
from biorerank_plugins.passages import PassageLike

PASSAGES = "passages.sqlite"
_IDENTITY = "inputs.json"


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
    path, noted = folder / PASSAGES, folder / _IDENTITY
    if identity is not None and path.exists() and noted.exists() and json.loads(noted.read_bytes()) == identity:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{TEMPORARY}{PASSAGES}"
    unfinished.unlink(missing_ok=True)
    noted.unlink(missing_ok=True)
    with closing(Catalog.create(unfinished)) as catalog:
        fill(catalog, passages, on_duplicate=on_duplicate)
    os.replace(unfinished, path)
    if identity is not None:
        write_whole(noted, json.dumps(identity).encode())
    return path


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
