"""From a model's name to its folder: embedded models, paths, and models that other distributions offer under a name.

They do that by an entry point of the group ``biorerank_plugins.models``::

    [project.entry-points."biorerank_plugins.models"]
    pubmed-reranker = "my_models.pubmed_reranker"       # a package whose folder is the model's
    pubmed-encoder = "my_models:ENCODER_FOLDER"         # or a path

The code of a distribution is imported only when its model is asked for.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError

logger = logging.getLogger(__name__)

_HUB_SECONDS = 10.0


def resolve_folder(name: str | os.PathLike[str]) -> Path | None:
    """Return the folder of an embedded or offered model, or of a path; ``None`` if it can only be a name on the hub.

    :param name: the model. An installed model goes before a folder of the same name: write ``./name`` for the folder.
    :raises ModelError: if it is a path to no model folder, or a bare name that is no installed model; the message lists
        those there are. The hub is not asked about such a name.
    """
    text = os.fspath(name)
    if text in models.names():
        return models.path(text)
    if _is_bare(name) and (offered := _offered_folder(text)) is not None:
        return offered
    path = Path(text).expanduser()
    if os.path.isdir(path):  # unlike Path.is_dir, no error where a name is too long for a path
        if not _holds_model(path):
            raise ModelError(f"The folder {text!r} holds no model: config.json is missing.")
        return path
    looks_like_path = isinstance(name, os.PathLike) or text.startswith((".", "/", "~", os.sep)) or text.count("/") > 1
    if looks_like_path or "/" not in text:
        offers = f" Offered by packages: {', '.join(offered_names())}." if offered_names() else ""
        raise ModelError(
            f"There is no model {text!r}: it is no folder and no embedded model. "
            f"Embedded models: {', '.join(models.names())}.{offers} Names on the hub have the form 'owner/name'."
        )
    return None


def is_installed(name: str) -> bool:
    """Return whether a model came with a package, this one or another, by its name."""
    return name in models.names() or (_is_bare(name) and name in offered_names())


def portable_name(name: str | os.PathLike[str]) -> str:
    """Return the name by which a model is found again, whatever the working directory."""
    text = os.fspath(name)
    return str(Path(text).resolve()) if not is_installed(text) and Path(text).is_dir() else text


def offered_names() -> list[str]:
    """Return the names of the models that installed distributions offer, sorted."""
    return sorted(_offered(tuple(sys.path)).names)


def cache_only(name: str, *, revision: str | None, token: str | bool | None, local_files_only: bool | None) -> bool:
    """Return whether a model must be taken from the local cache: asked for, or the hub does not answer.

    Without internet its library would try again for a minute.
    """
    if local_files_only:
        return True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi(token=token).model_info(name, revision=revision, timeout=_HUB_SECONDS)
    except HfHubHTTPError:
        return False  # it answered: whoever loads the model says what is wrong
    except Exception as error:  # no network, no name server, a proxy, offline mode, …
        logger.warning("The Hugging Face hub does not answer (%s); looking in the local cache.", type(error).__name__)
        return True
    return False


def _is_bare(name: str | os.PathLike[str]) -> bool:
    return isinstance(name, str) and "/" not in name and os.sep not in name


def _holds_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


@lru_cache(maxsize=8)
def _offered(search_path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points; looking through all distributions takes a while, and a model is named often."""
    return entry_points(group="biorerank_plugins.models")


def _offered_folder(name: str) -> Path | None:
    """Return the folder of an offered model; ``None`` if nobody offers one under this name.

    :raises ModelError: if two distributions offer different models under it, or what one offers is no model folder.
    """
    found = list(_offered(tuple(sys.path)).select(name=name))
    if not found:
        return None
    if len({point.value for point in found}) > 1:
        who = " and ".join(sorted(f"{_distribution(point)} ({point.value})" for point in found))
        raise ModelError(f"The model {name!r} is offered by {who}: uninstall one, or give the folder of the other.")
    point = found[0]
    offer = f"The model {name!r}, which {_distribution(point)} offers as {point.value!r},"
    try:
        value = point.load()
    except Exception as error:  # whatever their code raises
        raise ModelError(f"{offer} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(value, ModuleType):
        value = next(iter(getattr(value, "__path__", ())), None)
    if not isinstance(value, (str, os.PathLike)):
        raise ModelError(f"{offer} is neither a package nor the path of a folder.")
    folder = Path(value)
    if not _holds_model(folder):
        raise ModelError(f"{offer} is no model folder: {folder} holds no config.json.")
    return folder


def _distribution(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else "a package"
