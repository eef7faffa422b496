"""Names of a package that are loaded when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], within: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names are imported at their first use.

    :param package: its name.
    :param homes: module of each name, relative (``".encoder"``) or absolute.
    :param within: makes what the import runs in, such as :func:`~biorerank_plugins.errors.require_extra`.

    >>> load, _ = lazy_names("biorerank_plugins", {"lazy_names": "._common.lazy"})
    >>> load("lazy_names") is lazy_names
    True
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with within():
            return getattr(import_module(homes[name], package), name)

    return load, lambda: sorted(sys.modules[package].__all__)
