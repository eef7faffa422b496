"""The house as it stands: no circles between modules, and every room imports only what lies below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]


def circular_imports(*packages: str) -> list[str]:
    """Return each import that lies on a circle; those for type checkers, and those in functions, count."""
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    return sorted(
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if graph.chain_exists(importer=imported, imported=importer)
    )


def test_no_module_imports_another_that_leads_back_to_it():
    assert circular_imports("biorerank_plugins", "haystack_integrations") == []


def test_a_circle_is_seen_whatever_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "circular"
    folder.mkdir()
    (folder / "__init__.py").write_text("from circular import first\n", encoding="utf-8")
    (folder / "first.py").write_text("def later():\n    from circular import second\n", encoding="utf-8")
    (folder / "second.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from circular import first\n", encoding="utf-8"
    )
    (folder / "apart.py").write_text("from circular import second\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert circular_imports("circular") == ["circular.first -> circular.second", "circular.second -> circular.first"]


def test_every_contract_on_imports_is_kept():
    """In a process of its own: the linter changes the search path and the logging of the one it runs in."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
