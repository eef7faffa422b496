"""The models that ship inside the package, found by name, without a network.

>>> from biorerank_plugins import models
>>> models.DEFAULT_RERANKER in models.names()
True
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from biorerank_plugins.errors import ModelError

__all__ = ["DEFAULT_ENCODER", "DEFAULT_RERANKER", "content_hash", "names", "path"]

DEFAULT_RERANKER = "biorerank-minilm-l6"
"""Name of the embedded cross-encoder that :class:`~biorerank_plugins.BioReranker` uses unless told otherwise."""

DEFAULT_ENCODER = "biorerank-encoder-minilm-l6"
"""Name of the embedded bi-encoder that the first stage uses unless told otherwise."""

# What content_hash gives for the models as they were released.
_SHA256 = {
    "biorerank-encoder-minilm-l6": "01e76db1666a1ab4a397774e0aeed4eb366e724f920e0395e4e54d10a7fc84f3",
    "biorerank-minilm-l6": "4a0c22a2ceaea9c7c5eefe21ef154940e45a2f694c81a3a98e77775e02c85f08",
}
_HERE = Path(__file__).parent
# What changes the numbers a model computes; the card and the licence do not, nor do copies in other formats (onnx/, …),
# which tools add to a folder later, nor our own settings, which only say how scores are put together.
_HASHED_SUFFIXES = {".safetensors", ".json", ".txt", ".model"}
_SETTINGS = "biorerank.json"
_MODULE_FOLDER = re.compile(r"\d+_\w+")


def names() -> list[str]:
    """Return the names of the embedded models, sorted."""
    return sorted(folder.name for folder in _HERE.iterdir() if (folder / "config.json").is_file())


def path(name: str) -> Path:
    """Return the folder of an embedded model; sentence-transformers loads it as it is.

    :param name: one of :func:`names`.
    :raises ModelError: if there is no embedded model of that name; the message lists those there are.
    """
    if name not in names():
        raise ModelError(f"There is no embedded model {name!r}. Embedded models: {', '.join(names())}.")
    return _HERE / name


def is_embedded(folder: Path) -> bool:
    """Return whether a folder is that of an embedded model."""
    return folder.parent == _HERE


def is_as_released(name: str) -> bool:
    """Return whether the files of an embedded model are those that were released: nothing damaged, nothing changed."""
    return content_hash(path(name)) == _SHA256.get(name)


def content_hash(folder: str | Path) -> str:
    """Return a SHA-256 over everything in a model folder that changes what the model computes.

    Weights, configuration and tokenizer files count, with their relative names; cards and licences do not. Pickled
    weights (``*.bin``) count where there are no others: only training starts from such.

    :param folder: a model folder.
    :raises ModelError: if the folder holds no such file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ModelError(f"{root} is no model folder: there is no such folder.")
    folders = [root, *(path for path in root.iterdir() if path.is_dir() and _MODULE_FOLDER.fullmatch(path.name))]
    files = sorted(path for folder in folders for path in folder.iterdir() if path.is_file() and _counts(path))
    if not any(path.suffix == ".safetensors" for path in files):
        files = sorted([*files, *(path for folder in folders for path in folder.glob("*.bin"))])
    if not files:
        raise ModelError(f"{root} is no model folder: it holds no weights, configuration or tokenizer files.")
    stats = tuple((p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _hash_files(root, stats)


def _counts(path: Path) -> bool:
    return path.suffix in _HASHED_SUFFIXES and path.name != _SETTINGS


@lru_cache(maxsize=64)
def _hash_files(root: Path, stats: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stats:
        digest.update(f"{name}\0{size}\0".encode())
        with (root / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
