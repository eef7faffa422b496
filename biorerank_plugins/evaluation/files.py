"""Files that are never half there."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there when it is complete; what fails leaves nothing behind.

    :param path: where to write; its folder must exist.
    :param data: the content.
    :raises OSError: if it cannot be written; an earlier file is then as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
