"""Run files: written and read back, readable by trec_eval's rules, errors with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import ir_measures
import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation import read_run, write_run


def test_a_run_is_written_and_read_back(tmp_path: Path) -> None:
    run = {"q1": {"p1": 0.1 + 0.2, "p2": 1e-12}, "q2": {"päper": -3.0}}
    write_run(run, tmp_path / "run.trec")
    assert read_run(tmp_path / "run.trec") == run


def test_lines_are_those_of_trec(tmp_path: Path) -> None:
    write_run({"q": {"low": 1.0, "high": 2.0, "also-low": 1.0}}, tmp_path / "run", tag="mine")
    assert (tmp_path / "run").read_text(encoding="utf-8").splitlines() == [
        "q Q0 high 1 2.0 mine",
        "q Q0 low 2 1.0 mine",
        "q Q0 also-low 3 1.0 mine",
    ]


def test_other_tools_read_the_file(tmp_path: Path) -> None:
    run = {"q1": {"p1": 2.0, "p2": 1.0}, "q2": {"p3": 0.25}}
    write_run(run, tmp_path / "run")
    docs = [(doc.query_id, doc.doc_id, doc.score) for doc in ir_measures.read_trec_run(str(tmp_path / "run"))]
    assert docs == [("q1", "p1", 2.0), ("q1", "p2", 1.0), ("q2", "p3", 0.25)]


def test_nothing_is_left_behind_but_the_file(tmp_path: Path) -> None:
    write_run({"q": {"p": 1.0}}, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("run", [{"two words": {"p": 1.0}}, {"q": {"p\t1": 1.0}}, {"": {"p": 1.0}}, {"q": {" p": 1.0}}])
def test_an_id_with_white_space_is_refused(tmp_path: Path, run: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="cannot stand in a run file"):
        write_run(run, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q Q0 p 1 0.5", "expected 6 columns .* got 5"),
        ("q Q0 p 1 high tag", "finite number as score, got 'high'"),
        ("q Q0 p 1 nan tag", "finite number"),
        ("q Q0 first 1 0.5 tag", "'first' is listed twice"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "run"
    path.write_text(f"q Q0 first 1 0.5 tag\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ReaderError, match=f"run:3: .*{reason}"):
        read_run(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="absent: There is no such file"):
        read_run(tmp_path / "absent")


def test_a_byte_order_mark_or_gzip_does_not_lose_the_first_line(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfq1 Q0 p1 1 2.0 tag\nq1 Q0 p2 2 1.0 tag\n"
    for name, data in (("plain", content), ("zipped", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        assert read_run(tmp_path / name) == {"q1": {"p1": 2.0, "p2": 1.0}}


def test_half_a_gzip_is_named(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(gzip.compress(b"q1 Q0 p1 1 2.0 tag\n")[:-6])
    with pytest.raises(ReaderError, match="half: The gzip data are damaged"):
        read_run(tmp_path / "half")
