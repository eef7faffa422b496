"""Write docs/licences.md: what an installation without extras brings, and under which licences.

    python .ci/licences.py > docs/licences.md

The packages are those of the environment that runs this; a platform of another kind may add or lack some.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "biorerank-plugins"
HEAD = """\
# Licences

The package is under Apache-2.0, and so are the two models inside it, whose base is all-MiniLM-L6-v2 (Apache-2.0); the
terms of the data they were trained on stand in their cards. Nothing else is shipped: what it needs, pip installs. The
table names what an installation without extras brings, as the metadata of the installed packages say it, in the
environment in which this page was made ({where}); `.ci/licences.py` makes it again in yours. PyTorch's builds for CUDA
bring NVIDIA's libraries too, which have terms of their own.

A bill of materials of your own environment, in CycloneDX: `pip install cyclonedx-bom`, then
`cyclonedx-py environment .venv > sbom.json`.

| package | version | licence |
|---|---|---|"""


def main() -> None:
    """Print the page."""
    print(HEAD.replace("{where}", f"{platform.system()}, Python {sys.version_info[0]}.{sys.version_info[1]}"))
    for name, found in sorted(closure(OURS).items()):
        print(f"| {name} | {found.version} | {licence(found)} |")


def closure(root: str) -> dict[str, Distribution]:
    """Return what a distribution needs, and what that needs, by name; not the distribution itself."""
    found: dict[str, Distribution] = {}
    waiting = [(root, frozenset[str]())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for needed in needs(distribution(name), extras):
            try:
                found[canonicalize_name(needed.name)] = distribution(needed.name)
            except PackageNotFoundError:
                raise SystemExit(f"{needed.name}, which {name} needs, is not installed here.") from None
            step = (canonicalize_name(needed.name), frozenset(needed.extras))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return found


def needs(one: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Return the requirements that hold here."""
    for line in one.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(
            requirement.marker.evaluate({**default_environment(), "extra": extra}) for extra in extras or {""}
        ):
            yield requirement


def licence(one: Distribution) -> str:
    """Return the licence: the expression, else the classifiers, else the first line of the field."""
    said = one.metadata.get("License-Expression")
    if not said:
        classifiers = one.metadata.get_all("Classifier") or ()
        own = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
        said = "; ".join(own) or (one.metadata.get("License") or "").strip().split("\n")[0]
    return re.sub(r"\s+", " ", said).replace("|", "/")[:120] or "not said"


if __name__ == "__main__":
    main()
