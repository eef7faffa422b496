"""Versions: of this package, kept here and nowhere else, and of the packages that it stands on."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

VERSION = "0.2.0"


def version_of(package: str) -> str | None:
    """Return the version of an installed distribution; ``None`` if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of this package, of Python, and of those of some packages that are installed.

    >>> versions(["numpy", "there-is-no-such-package"]).keys() == {"biorerank-plugins", "python", "numpy"}
    True
    """
    found = {package: version_of(package) for package in packages}
    return {
        "biorerank-plugins": VERSION,
        "python": platform.python_version(),
        **{package: version for package, version in found.items() if version is not None},
    }
