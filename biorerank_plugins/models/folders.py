"""From a model's name to its folder."""

from __future__ import annotations

import os
from pathlib import Path

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError

__all__ = ["portable_name", "resolve_folder"]


def resolve_folder(name: str | os.PathLike[str]) -> Path | None:
    """Return the folder of an embedded model or of a path; ``None`` if ``name`` can only be a name on the hub.

    :raises ModelError: if it is a path to no model folder, or a bare name that is no embedded model; the message lists
        the embedded models. The hub is not asked about such a name.
    """
    text = os.fspath(name)
    if text in models.names():
        return models.path(text)
    path = Path(text).expanduser()
    if os.path.isdir(path):  # unlike Path.is_dir, no error where a name is too long for a path
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise ModelError(f"The folder {text!r} holds no model: config.json is missing.")
        return path
    looks_like_path = isinstance(name, os.PathLike) or text.startswith((".", "/", "~", os.sep)) or text.count("/") > 1
    if looks_like_path or "/" not in text:
        raise ModelError(
            f"There is no model {text!r}: it is no folder and no embedded model. "
            f"Embedded models: {', '.join(models.names())}. Names on the hub have the form 'owner/name'."
        )
    return None


def portable_name(name: str | os.PathLike[str]) -> str:
    """Return the name by which a model is found again, whatever the working directory."""
    text = os.fspath(name)
    return str(Path(text).resolve()) if text not in models.names() and Path(text).is_dir() else text
