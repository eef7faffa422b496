"""Finding the current version of a saved index, and checking it before anything in it is parsed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from biorerank_plugins.errors import PassageIndexError

FORMAT_VERSION = 3
READABLE_FORMATS = (1, 2, 3)  # 1 had no lexical part, which is made from the passages then; 3 may have token ids
FILES = ("passages.sqlite", "vectors.faiss")
LEXICAL_FILE = "lexical.npz"
_LEFT_ASIDE = "token_ids.bin"  # once saved with an index of format 3; not read, and not in the next version
LISTS_FILE = "vectors.lists"
CURRENT = "CURRENT"
MANIFEST = "manifest.json"
VERSION_NAME = re.compile(r"v\d{8}")


@dataclass(frozen=True)
class Version:
    """One version of a saved index, in its own folder."""

    folder: Path
    manifest: dict[str, Any]


def files_of(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the files that stand beside a manifest."""
    lexical = (LEXICAL_FILE,) if manifest.get("lexical") else ()
    lists = (LISTS_FILE,) if manifest.get("lists_on_disk") else ()
    return (*FILES, *lexical, *lists)


def is_index(folder: Path) -> bool:
    """Return whether a saved index is in this folder."""
    return os.path.isfile(folder / CURRENT)  # unlike Path.is_file, quiet about names that no path can have


def current_name(folder: Path) -> str | None:
    """Return the name of the version in use, ``None`` if there is none yet."""
    return _read_current(folder)["version"] if is_index(folder) else None


def open_version(folder: Path, verify: Literal["full", "fast"]) -> Version:
    """Find the current version and check it before anything in it is parsed.

    :param verify: ``"full"`` compares the SHA-256 of every file, ``"fast"`` its size.
    :raises PassageIndexError: if there is no index, or it is not what its manifest says; the message has the reason.
    """
    if not is_index(folder):
        raise PassageIndexError(f"There is no passage index in {folder}.")
    while True:
        current = _read_current(folder)
        try:
            return _check_version(folder / current["version"], current["manifest_sha256"], verify)
        except (OSError, PassageIndexError):
            # A writer may have switched to a newer version and removed this one just now.
            if _read_current(folder) == current:
                raise


def _read_current(folder: Path) -> dict[str, str]:
    path = folder / CURRENT
    current = _parsed(_read_plain_file(path), path)
    named = isinstance(current, dict) and isinstance(current.get("manifest_sha256"), str)
    if not named or VERSION_NAME.fullmatch(str(current.get("version"))) is None:
        raise PassageIndexError(f"{path} is damaged: it names no version of the index.")
    return {"version": current["version"], "manifest_sha256": current["manifest_sha256"]}


def _check_version(folder: Path, manifest_sha256: str, verify: Literal["full", "fast"]) -> Version:
    if folder.is_symlink() or not folder.is_dir():
        raise PassageIndexError(f"{folder} is missing or is not a plain folder. Build the index again.")
    raw = _read_plain_file(folder / MANIFEST)
    manifest = _parse_manifest(raw, folder)
    if hashlib.sha256(raw).hexdigest() != manifest_sha256:
        raise PassageIndexError(f"{folder / MANIFEST} was changed: its SHA-256 is not the one in {CURRENT}.")
    present = {entry.name for entry in folder.iterdir()}
    if manifest.get("token_ids"):
        present.discard(_LEFT_ASIDE)
    expected = {MANIFEST, *files_of(manifest)}
    missing, unexpected = sorted(expected - present), sorted(present - expected)
    if missing or unexpected:
        raise PassageIndexError(
            f"{folder} does not hold the files of an index: missing {missing}, unexpected {unexpected}."
        )
    for name in files_of(manifest):
        _check_file(folder / name, manifest, verify)
    return Version(folder, manifest)


def _parse_manifest(raw: bytes, folder: Path) -> dict[str, Any]:
    manifest = _parsed(raw, folder / MANIFEST)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version not in READABLE_FORMATS:
        raise PassageIndexError(
            f"{folder} has index format {version!r}; this release reads formats "
            f"{READABLE_FORMATS[0]} to {READABLE_FORMATS[-1]}. "
            "Build the index again, or use the release that wrote it."
        )
    return dict(manifest)


def _check_file(path: Path, manifest: dict[str, Any], verify: Literal["full", "fast"]) -> None:
    try:
        listed = manifest["files"][path.name]
        listed_size, listed_sha256 = listed["size"], listed["sha256"]
    except (KeyError, TypeError) as error:
        raise PassageIndexError(f"The manifest in {path.parent} does not list {path.name}.") from error
    if path.is_symlink() or not path.is_file():
        raise PassageIndexError(f"{path} is not a plain file.")
    size = path.stat().st_size
    if size != listed_size:
        raise PassageIndexError(f"{path} was changed: it has {size} bytes, the manifest says {listed_size}.")
    if verify == "full":
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != listed_sha256:
            raise PassageIndexError(f"{path} was changed: its SHA-256 is not the one in the manifest.")


def _parsed(raw: bytes, path: Path) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PassageIndexError(f"{path} is damaged: {error}.") from error


def _read_plain_file(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise PassageIndexError(f"{path} is missing or is not a plain file.")
    return path.read_bytes()
