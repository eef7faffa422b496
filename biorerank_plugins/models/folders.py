"""From a model's name to its folder."""

from __future__ import annotations

import os
from pathlib import Path

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.offered import offered_folder, offered_names


def resolve_folder(name: str | os.PathLike[str]) -> Path | None:
    """Return the folder of an embedded or offered model, or of a path; ``None`` if it can only be a name on the hub.

    :param name: the model. An installed model goes before a folder of the same name: write ``./name`` for the folder.
    :raises ModelError: if it is a path to no model folder, or a bare name that is no installed model; the message lists
        those there are. The hub is not asked about such a name.
    """
    text = os.fspath(name)
    if text in models.names():
        return models.path(text)
    if _is_bare(name) and (offered := offered_folder(text)) is not None:
        return offered
    path = Path(text).expanduser()
    if os.path.isdir(path):  # unlike Path.is_dir, no error where a name is too long for a path
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
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


def _is_bare(name: str | os.PathLike[str]) -> bool:
    return isinstance(name, str) and "/" not in name and os.sep not in name


def portable_name(name: str | os.PathLike[str]) -> str:
    """Return the name by which a model is found again, whatever the working directory."""
    text = os.fspath(name)
    return str(Path(text).resolve()) if not is_installed(text) and Path(text).is_dir() else text
