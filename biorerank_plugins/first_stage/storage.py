"""Safe files for an index: versions that are never edited, checksums, one atomic switch.

::

    folder/
      CURRENT            JSON: name of the version in use, SHA-256 of its manifest
      .lock              held by the one process that writes
      v00000003/
        manifest.json    what the index is, size and SHA-256 of the files beside it
        passages.sqlite  vectors.faiss  lexical.npz

A change writes a whole new version beside the old one, syncs every file of it, and then replaces ``CURRENT``. Until
that moment readers, and whoever comes after a crash, see the old version; from it on they see the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from biorerank_plugins._common.files import TEMPORARY, remove_if_possible, sync_folder, write_whole
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import verification
from biorerank_plugins.first_stage.verification import CURRENT, current_name, is_index

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_LOCK_SECONDS = 10


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Be the only one who writes to this index, in this process and in others."""
    try:
        lock = FileLock(folder / _LOCK).acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise PassageIndexError(f"Another process is writing to the index in {folder}. Try again later.") from error
    with lock:
        yield


@contextmanager
def prepared_folder(folder: Path) -> Iterator[None]:
    """Make sure that an index may be saved in this folder; remove it again if it is new and nothing was saved."""
    if folder.exists() and not folder.is_dir():
        raise PassageIndexError(f"{folder} is a file. An index is saved in a folder.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        strange = sorted({entry.name for entry in folder.iterdir() if not _is_written(entry.name)} - {CURRENT, _LOCK})
        if strange and not is_index(folder):
            raise PassageIndexError(
                f"{folder} exists and is no passage index (it holds {', '.join(strange[:3])}). "
                "Save to a new folder, or remove this one first."
            )
        if is_new:
            sync_folder(folder.parent)
        yield
    finally:
        if is_new and not is_index(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_written(name: str) -> bool:
    return name.startswith(TEMPORARY) or verification.VERSION_NAME.fullmatch(name) is not None


def commit_version(folder: Path, write_files: Callable[[Path], None], about: dict[str, Any]) -> str:
    """Write a new version and make it the current one; the caller holds :func:`writer_lock`.

    Whatever happens before the switch (a full disk, Ctrl-C, a crash) leaves the current version as it is.

    :param write_files: writes the files that :func:`~.verification.files_of` names into the folder it is given.
    :param about: what the manifest says besides the format version and the files.
    :returns: name of the new version.
    """
    _remove_leftovers(folder)
    previous = current_name(folder)
    name = f"v{int(previous[1:]) + 1 if previous else 1:08d}"
    unfinished = folder / f"{TEMPORARY}version"
    try:
        unfinished.mkdir()
        write_files(unfinished)
        files = {file: _sync_and_hash(unfinished / file) for file in verification.files_of(about)}
        content = {"format_version": verification.FORMAT_VERSION, **about, "files": files}
        manifest = json.dumps(content, indent=2).encode()
        with (unfinished / verification.MANIFEST).open("wb") as file:  # nobody sees it before the folder is renamed
            file.write(manifest)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(unfinished)
        os.replace(unfinished, folder / name)
        sync_folder(folder)
        switch = {"version": name, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
        write_whole(folder / CURRENT, json.dumps(switch).encode())
    finally:
        # After the switch this removes the version before; after a failure, the new one.
        _remove_leftovers(folder)
    try:
        sync_folder(folder)
    except OSError as error:  # too late to fail: readers see the new version already
        logger.warning("Version %s of the index is in use, but %s could not be synced: %s", name, folder, error)
    return name


def _remove_leftovers(folder: Path) -> None:
    """Remove whatever is of ours and not in use: old versions and what an interrupted change left."""
    keep = current_name(folder)
    for entry in folder.iterdir():
        if entry.name != keep and _is_written(entry.name):
            remove_if_possible(entry)


def _sync_and_hash(path: Path) -> dict[str, Any]:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
