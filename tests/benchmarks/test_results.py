"""Every file with figures is named, is there, and has the form that a committed script writes."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
ROWS = re.findall(
    r"^\|.*\| `([\w/]+\.py)` \| `results/(\w+\.json)` \|$", (BENCHMARKS / "README.md").read_text("utf-8"), re.MULTILINE
)
SCRIPTS = {result: script for script, result in ROWS}
OTHER_MACHINE = re.compile(r"-(avx2|amx)(?=\.json$)")
"""In the name of a result that the same script wrote on a machine of another kind."""
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    BENCHMARKS / "README.md",
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "biorerank_plugins").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def _declared(script: Path) -> dict[str, Any]:
    """Constants of a module, without importing what it measures."""
    found: dict[str, Any] = {}
    for line in ast.parse(script.read_text("utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            name = line.targets[0].id
            if name in ("RESULT", "KEYS", "KEYS_OF_EACH"):
                found[name] = ast.literal_eval(line.value)
    return found


def _named_paths(document: Path) -> set[str]:
    """Paths of files of the checkout that a text names, as ``folder/{one,two}.py`` too."""
    found: set[str] = set()
    for path in re.findall(r"(?<![\w/])((?:benchmarks|docs|examples)/[\w./{},-]+\.\w+)", document.read_text("utf-8")):
        head, brace, rest = path.partition("{")
        names, _, tail = rest.partition("}")
        found |= {f"{head}{name}{tail}" for name in names.split(",")} if brace else {path}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_are_there(document: Path) -> None:
    assert [path for path in sorted(_named_paths(document)) if not (ROOT / path).is_file()] == []


def test_documents_name_files() -> None:
    assert "benchmarks/results/sentences.json" in _named_paths(ROOT / "docs" / "explanation" / "measured.md")


def test_every_result_has_a_row_and_every_row_a_result() -> None:
    assert len(ROWS) == len(SCRIPTS)
    assert sorted(SCRIPTS) == sorted({OTHER_MACHINE.sub("", path.name) for path in RESULTS})


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_result_has_the_keys_that_its_script_declares(path: Path) -> None:
    name = OTHER_MACHINE.sub("", path.name)
    declared = _declared(BENCHMARKS / SCRIPTS[name])
    assert declared["RESULT"] == name
    result = json.loads(path.read_text("utf-8"))
    if "KEYS" in declared:
        assert set(result) == set(declared["KEYS"])
    else:
        entries = list(result.values() if isinstance(result, dict) else result)
        assert {key for entry in entries for key in entry} == set(declared["KEYS_OF_EACH"])


def test_no_other_script_declares_a_result() -> None:
    declared = {script.relative_to(BENCHMARKS).as_posix(): _declared(script) for script in BENCHMARKS.rglob("*.py")}
    assert {script for script, found in declared.items() if "RESULT" in found} == set(SCRIPTS.values())


def test_a_script_writes_no_key_that_it_does_not_declare(tmp_path: Path) -> None:
    from benchmarks.common import write_result

    with pytest.raises(ValueError, match="does not declare: b; expected a"):
        write_result(tmp_path / "x.json", {"a": 1, "b": 2}, ("a",))
    with pytest.raises(ValueError, match="does not declare: b"):
        write_result(tmp_path / "x.json", [{"a": 1}, {"b": 2}], ("a",), each=True)
    assert list(tmp_path.iterdir()) == []
    write_result(tmp_path / "x.json", {"one": {"a": 1}}, ("a",), each=True)
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"one": {"a": 1}}
