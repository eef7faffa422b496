"""What tests of several rooms share: collections, models and servers made for tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
"""The folder that child processes find this package in."""

ROOT = TESTS.parent
"""The checkout."""

DEMO = ROOT / "biorerank_plugins" / "demo"
"""The demo collection, in BEIR's layout."""


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip tests where a package is not installed; unlike ``importorskip`` it loads nothing of it."""
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
