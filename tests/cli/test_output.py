"""Where results go, and how filters are typed."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata

import pytest
import typer
from rich.console import Console

from biorerank_plugins.cli.before_after import before_after_table
from biorerank_plugins.cli.demo_view import Shown, render
from biorerank_plugins.cli.option_groups import parse_filters
from biorerank_plugins.cli.output import Column, Output, one_line, printable, rich_table
from biorerank_plugins.cli.views import move
from biorerank_plugins.evaluation import compare
from biorerank_plugins.evaluation.metrics import measure_label
from biorerank_plugins.passages import Passage, RankedPassage, Ranking

COLUMNS = [Column("rank", numeric=True), Column("passage", wide=True)]


def test_a_pipe_gets_one_line_a_row_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(COLUMNS, [[1, "a\tb\nc " + "word " * 200]])
    head, row = capsys.readouterr().out.splitlines()
    assert head == "rank\tpassage"
    assert row == "1\ta b c " + ("word " * 200).strip()


def test_a_terminal_gets_a_table_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    Output().table(COLUMNS, [[1, "word " * 40], [2, "[bold]not markup[/bold]"]])
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    assert len(lines) > 4
    assert all(len(line) <= 60 for line in lines)
    assert any("[bold]not markup[/bold]" in line for line in lines)


EVIL = "a\x1b[2J\x00\x7f\x9b\u202e\u2066\u200f\u061cb"
SHOWN = "a�[2J" + "�" * 7 + "b"


def test_control_characters_are_replaced_and_nothing_else() -> None:
    assert printable(EVIL) == SHOWN
    assert one_line(f" {EVIL}\n\tβ-blocker ½\u200dé ") == f"{SHOWN} β-blocker ½\u200dé"
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    every = set(map(chr, range(sys.maxunicode + 1)))
    expected = {c for c in every if unicodedata.category(c) == "Cc" or unicodedata.bidirectional(c) in turning}
    assert {c for c in every if printable(c) != c} == expected | set("\u200e\u200f\u061c")


def test_no_cell_and_no_note_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.table(COLUMNS, [[1, EVIL]])
    output.table(COLUMNS, [[1, EVIL]], query=EVIL)
    output.note(EVIL)
    output.warn(EVIL)
    output.line(EVIL)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(rich_table(COLUMNS, [[1, EVIL]]))
    shown = "".join(capsys.readouterr()) + capture.get()
    assert shown.count(SHOWN) == 7
    assert not set(EVIL) - set("a[2Jb") & set(shown)


def test_the_demo_shows_no_control_characters() -> None:
    passage = Passage(EVIL, EVIL, EVIL)
    ranking = Ranking(EVIL, (RankedPassage(passage, input_index=0, rank=1, logit=1.0, score=0.7, probability=0.7),))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(Shown(ranking)))
    assert capture.get().count(SHOWN) == 5
    assert not set(EVIL) - set("a[2Jb") & set(capture.get())


def test_the_measures_fit_on_80_columns() -> None:
    comparison = compare({"a": 0.9, "b": 0.8}, {"a": 0.1, "b": 0.2})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(rich_table(*before_after_table(dict.fromkeys(("nDCG@10", "RR@10", "R@100"), comparison))))
    text = capture.get()
    assert "measure" in text and "recall@100" in text and "0/2" in text and "-0.7000" in text
    assert "…" not in text.replace(" … ", "")


def test_json_is_one_document_and_tables_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=True)
    output.table(COLUMNS, [[1, "x"]])
    output.line("text")
    output.note("note")
    output.document({"µ": [1.5, None]})
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"µ": [1.5, None]}
    assert shown.err == "note\n"


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=True)
    output.note("note")
    output.warn("[2] lines")
    assert capsys.readouterr().err == "Warning: [2] lines\n"
    assert not output.show_progress


def test_json_survives_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Output(json=True).document({"text": "β-blocker"})
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == {"text": "β-blocker"}


def test_moves_and_labels() -> None:
    assert [move(5, 1), move(1, 3), move(2, 2)] == ["↑4", "↓2", "="]
    assert [measure_label(name) for name in ("RR@10", "R@100", "AP", "nDCG@10")] == [
        "MRR@10", "recall@100", "MAP", "nDCG@10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], None),
        (["year>=2015"], {"year": {">=": 2015}}),
        (["year >= 2015", "year<2020"], {"$and": [{"year": {">=": 2015}}, {"year": {"<": 2020}}]}),
        (["pmid=007"], {"pmid": {"==": "007"}}),
        (["pmid=23185200"], {"pmid": {"in": [23185200, "23185200"]}}),
        (["year!=2015"], {"year": {"not in": [2015, "2015"]}}),
        (['date>="2015-03"'], {"date": {">=": "2015-03"}}),
        (["open=true"], {"open": {"==": True}}),
        (["doi=null"], {"doi": {"==": None}}),
        (['journal=["BMJ", "Lancet"]'], {"journal": {"in": ["BMJ", "Lancet"]}}),
        (["mesh~Asthma"], {"mesh": {"contains": "Asthma"}}),
        (["title=a=b"], {"title": {"==": "a=b"}}),
        (["journal = New England Journal"], {"journal": {"==": "New England Journal"}}),
    ],
)
def test_conditions_become_filters(typed: list[str], expected: object) -> None:
    assert parse_filters(typed) == expected


@pytest.mark.parametrize("typed", ["", "year", "year=", "=3", "year>", ">=", "  "])
def test_what_is_no_condition_is_wrong_usage(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        parse_filters([typed])
    assert ended.value.exit_code == 2
    assert "is no condition" in capsys.readouterr().err
