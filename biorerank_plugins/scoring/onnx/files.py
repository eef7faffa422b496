"""Exported models in the user's cache folder: built once, found again by a hash, never half-written.

``BIORERANK_CACHE`` names another folder than the system's own. A file lies beside its SHA-256; one that does not fit it
is built again. Where the folder cannot be written, the model is used from memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from biorerank_plugins._common.files import write_whole

logger = logging.getLogger(__name__)

T = TypeVar("T")


def cache_folder() -> Path:
    """Return the folder of exported models; it need not exist."""
    from platformdirs import user_cache_path

    named = os.environ.get("BIORERANK_CACHE")
    return (Path(os.path.expanduser(named)) if named else user_cache_path("biorerank")) / "onnx"


def content_key(weights: Mapping[str, Any], about: str) -> str:
    """Return a hash of weights and of whatever else the exported file depends on.

    :param weights: tensors by name.
    :param about: everything else.
    """
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
    return digest.hexdigest()[:32]


def built_once(name: str, build: Callable[[], bytes], load: Callable[[bytes | str], T]) -> T:
    """Load a file of the cache folder; build it first if it is not there, or is not what was written.

    :param name: name of the file, without its ending.
    :param build: makes its content.
    :param load: from a path, or from the content where nothing can be written, to what is wanted.
    """
    path = cache_folder() / f"{name}.onnx"
    try:
        if _is_whole(path):
            return load(str(path))
    except Exception as error:  # ONNX Runtime raises errors of its own: of another version, for one
        logger.warning("The exported model %s cannot be loaded and is built again: %s", path, error)
    content = build()
    try:
        _write(path, content)
    except OSError as error:
        logger.warning("Cannot keep the exported model in %s, so it is built at each start: %s", path.parent, error)
        return load(content)
    return load(str(path))


def _is_whole(path: Path) -> bool:
    try:
        stated = path.with_suffix(".sha256").read_text(encoding="ascii").strip()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        logger.warning("The exported model %s cannot be read and is built again: %s", path, error)
        return False
    if found != stated:
        logger.warning("The exported model %s is damaged and is built again.", path)
    return found == stated


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The hash last: until it is there, or fits, the file counts as absent.
    write_whole(path, content)
    write_whole(path.with_suffix(".sha256"), hashlib.sha256(content).hexdigest().encode())
