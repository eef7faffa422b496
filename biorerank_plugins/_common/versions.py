"""Versions: of this package, kept here and nowhere else, and of the packages that it stands on."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


def install_line(extra: str) -> str:
    """Return the command that installs an extra here: beside an installed package, or in the checkout that it is.

    >>> install_line("serve").startswith("pip install ")
    True
    """
    checkout = _checkout()
    if checkout is None:
        return f"pip install 'biorerank-plugins[{extra}]'"
    where = "." if checkout == Path.cwd() else str(checkout)
    return f"pip install -e {shlex.quote(f'{where}[{extra}]')}"


def _checkout() -> Path | None:
    """Return the folder of a package that runs from its sources; ``None`` if a copy of it is installed."""
    try:
        said = metadata.distribution("biorerank-plugins").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return Path(__file__).resolve().parents[2]
    source = json.loads(said) if said else {}
    if not source.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(source["url"]).path))
