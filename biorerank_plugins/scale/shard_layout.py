"""The folder of a sharded index: indexes, and a file that says which they are.

::

    folder/
      shards.json        the folders of the shards, in the order of their numbers
      .lock              held by the one process that updates
      shard-0000/        an index, as it was built
      shard-0001-v2/     one that updates wrote anew

An update writes shards beside those in use and then replaces ``shards.json``: readers see one or the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biorerank_plugins._common.files import TEMPORARY, remove_if_possible, write_whole
from biorerank_plugins.errors import PassageIndexError

_LAYOUT = "shards.json"
_FORMAT = 2
_READABLE = (1, 2)  # 1 had the number of shards only: no update had written one anew
_FOLDER = re.compile(r"(shard-\d{4,5})(?:-v(\d{1,9}))?")
_MOST = 1 << 16  # shards; a damaged file must not ask for as many names as fit into no memory


def shard_of(id: str, shards: int) -> int:
    """Return the shard of an id: the same on every machine and in every release.

    >>> shard_of("23185200", 4)
    3
    """
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") % shards


def shard_name(number: int) -> str:
    """Return the name of a shard, which it keeps when an update gives it another folder."""
    return f"shard-{number:04d}"


def is_sharded(folder: Path) -> bool:
    """Return whether a sharded index is in this folder."""
    return os.path.isfile(folder / _LAYOUT)  # unlike Path.is_file, quiet about names that no path can have


def read_layout(folder: Path) -> dict[str, Path]:
    """Return names and folders of the shards, in the order of their numbers."""
    if not is_sharded(folder):
        raise PassageIndexError(f"There is no sharded index in {folder}.")
    try:
        layout = json.loads((folder / _LAYOUT).read_bytes())
        if layout["format"] not in _READABLE:
            raise PassageIndexError(
                f"{folder} has format {layout['format']!r} of shards; this release reads {_READABLE[0]} and {_FORMAT}."
            )
        return {name: folder / entry for name, entry in _entries(layout)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PassageIndexError(f"{folder / _LAYOUT} is damaged: {error!r}.") from error


def _entries(layout: dict[str, Any]) -> list[tuple[str, str]]:
    count = layout["shards"] if layout["format"] == 1 else len(layout["folders"])
    if type(count) is not int or not 1 <= count <= _MOST:
        raise ValueError(f"shards is {count!r:.40}")
    names = [shard_name(number) for number in range(count)]
    entries = names if layout["format"] == 1 else layout["folders"]
    for name, entry in zip(names, entries, strict=True):
        match = _FOLDER.fullmatch(entry)
        if match is None or match[1] != name:
            raise ValueError(f"{entry!r:.40} is no folder of {name}")
    return list(zip(names, entries, strict=True))


def write_layout(folder: Path, folders: Iterable[Path]) -> None:
    """Make these folders, in the order of their numbers, the shards of an index: in one step, or not at all."""
    content = {"format": _FORMAT, "folders": [path.name for path in folders]}
    write_whole(folder / _LAYOUT, json.dumps(content).encode())


def folder_after(folder: Path) -> Path:
    """Return where a shard is written anew.

    >>> folder_after(Path("shard-0001")).name, folder_after(Path("shard-0001-v9")).name
    ('shard-0001-v2', 'shard-0001-v10')
    """
    match = _FOLDER.fullmatch(folder.name)
    assert match is not None  # read_layout gives no others
    return folder.with_name(f"{match[1]}-v{int(match[2] or 1) + 1}")


def is_left_over(name: str) -> bool:
    """Return whether a build that was killed may have left this: shards, or the list of them half written."""
    return _FOLDER.fullmatch(name) is not None or name.startswith(f"{TEMPORARY}{_LAYOUT}")


def remove_leftovers(folder: Path) -> None:
    """Remove shards that are not in use, and what killed writers left."""
    in_use = {path.name for path in read_layout(folder).values()}
    for entry in folder.iterdir():
        if entry.name not in in_use and is_left_over(entry.name):
            remove_if_possible(entry)
