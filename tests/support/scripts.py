"""Running a script of ``benchmarks/`` in this process."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest


def run_script(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """Call ``main`` of ``benchmarks.<name>`` with arguments, and return what it gives."""
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    return module.main()
