"""Files that are never half there."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)

TEMPORARY = ".unfinished-"
"""How the names of files begin that are being written; what was killed leaves them behind."""


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write beside its place, and move it there once the body is through.

    :param path: where it will be; its folder must exist. Before, and if anything fails, it is as it was.
    :raises OSError: if it cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at any moment it is there as a whole, as before or as after.

    :param path: where to write; its folder must exist.
    :param data: the content.
    :raises OSError: if it cannot be written; an earlier file is then as it was.
    """
    with whole_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as :func:`write_whole` does.

    :param path: where to write.
    :param value: of JSON's types.
    """
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has, so that a power failure cannot undo a move.

    :raises OSError: if that fails.
    """
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_possible(entry: Path) -> None:
    """Remove a file, link or folder that is no longer needed; where that fails it stays, with a warning."""
    try:
        entry.unlink() if entry.is_symlink() or not entry.is_dir() else shutil.rmtree(entry)
    except OSError as error:
        logger.warning("Could not remove %s, which is no longer needed: %s", entry, error)
