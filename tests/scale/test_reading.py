"""Parquet files become passages; bad rows are named or left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport
from biorerank_plugins.scale.reading import read_file, read_parquet

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402


def written(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_become_a_passage(tmp_path: Path):
    file = written(
        tmp_path / "a.parquet",
        pmid=[1, 2],
        title=["T", None],
        text=["one", "two"],
        year=[2001, None],
        metadata=pa.array([[("journal", "J")], None], pa.map_(pa.string(), pa.string())),
    )
    first, second = read_parquet(file)
    assert (first.id, first.title, first.text, dict(first.metadata)) == (
        "1",
        "T",
        "one",
        {"journal": "J", "year": 2001},
    )
    assert (second.id, second.title, dict(second.metadata)) == ("2", None, {})
    report = ReadReport()
    assert [one.id for one in read_file(tmp_path, report=report)] == ["1", "2"]
    assert report.read == 2


def test_bad_rows_and_files_are_named(tmp_path: Path):
    file = written(tmp_path / "a.parquet", id=["a", None, "c"], text=["x", "y", " "])
    with pytest.raises(ReaderError, match=r"a\.parquet:2: The row has no id"):
        list(read_parquet(file))
    report = ReadReport()
    assert [one.id for one in read_parquet(file, skip_bad=True, report=report)] == ["a"]
    assert [one.line for one in report.skipped] == [2, 3]
    with pytest.raises(ReaderError, match="Expected the columns id or _id"):
        list(read_parquet(written(tmp_path / "b.parquet", name=["a"])))
    (tmp_path / "c.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ReaderError, match="Cannot be read as Parquet"):
        list(read_parquet(tmp_path / "c.parquet"))
