"""Models that other distributions offer under a name, by an entry point of the group ``biorerank_plugins.models``.

::

    [project.entry-points."biorerank_plugins.models"]
    pubmed-reranker = "my_models.pubmed_reranker"       # a package whose folder is the model's
    pubmed-encoder = "my_models:ENCODER_FOLDER"         # or a path

The code of a distribution is imported only when its model is asked for.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from biorerank_plugins.errors import ModelError

GROUP = "biorerank_plugins.models"
"""The group of entry points."""


def offered_names() -> list[str]:
    """Return the names of the models that installed distributions offer, sorted."""
    return sorted(_offered(tuple(sys.path)))


def offered_folder(name: str) -> Path | None:
    """Return the folder of an offered model; ``None`` if nobody offers one under this name.

    :raises ModelError: if two distributions offer different models under it, or what one offers is no model folder.
    """
    found = _offered(tuple(sys.path)).get(name, ())
    if not found:
        return None
    if len({point.value for point in found}) > 1:
        who = " and ".join(sorted(f"{_distribution(point)} ({point.value})" for point in found))
        raise ModelError(f"The model {name!r} is offered by {who}: uninstall one, or give the folder of the other.")
    return _folder(found[0])


@lru_cache(maxsize=8)
def _offered(search_path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Return entry points by name; looking through all distributions takes a while, and a model is named often."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _folder(point: EntryPoint) -> Path:
    offer = f"The model {point.name!r}, which {_distribution(point)} offers as {point.value!r},"
    try:
        value = point.load()
    except Exception as error:  # whatever their code raises
        raise ModelError(f"{offer} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(value, ModuleType):
        value = next(iter(getattr(value, "__path__", ())), None)
    if not isinstance(value, (str, os.PathLike)):
        raise ModelError(f"{offer} is neither a package nor the path of a folder.")
    folder = Path(value)
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(f"{offer} is no model folder: {folder} holds no config.json.")
    return folder


def _distribution(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else "a package"
