"""The benchmark of formats in a short form: every format gives the passages that were written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import ROOT

from benchmarks.reliability.formats import WRITERS, measured

ROWS = [
    ("1", 'Müller takes 5 µg, "daily";\tand so on.'),
    ("2", "A long one " + "with many words " * 40),
    ("3", "Short."),
]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same(name: str, tmp_path: Path):
    found = measured(name, tmp_path, ROWS)
    assert (found["read"], found["other_ids"], found["other_texts"]) == (3, 0, 0)
    assert (found["other_blanks"] > 0) == (name == "nbib")


def test_the_guide_has_the_figures_of_the_result():
    result = json.loads((ROOT / "benchmarks" / "results" / "formats.json").read_text("utf-8"))
    table = (ROOT / "docs" / "guides" / "files.md").read_text("utf-8").split("## The same passages")[1]
    shown = re.findall(r"^\| [\w ,]+ \| ([\d.]+) \| ([\d.]+) \|$", table, re.MULTILINE)
    assert shown == [(f"{one['bytes'] / 1e6:.1f}", f"{one['seconds']:.1f}") for one in result["formats"].values()]
    assert f"{result['passages']:,} passages" in table
    assert all(one["other_ids"] == one["other_texts"] == one["other_blanks"] == 0 for one in result["formats"].values())
