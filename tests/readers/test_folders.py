"""Folders: which files are read, in which order; text files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport, read_passages

GOOD = b'{"id": "1", "text": "Statins cause muscle pain."}\n'


def ids(path: str | Path, **options: object) -> list[str]:
    return [passage.id for passage in read_passages(path, **options)]  # type: ignore[arg-type]


def test_a_folder_gives_each_file_by_its_own_format_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.txt").write_text("hidden")
    (tmp_path / "a.tsv").write_text("t1\tFrom a table.\n")
    (tmp_path / "b" / "note.txt").write_text("From a note.\r\n", newline="")
    (tmp_path / "b" / "NOTE2.TXT.gz").write_bytes(gzip.compress(b"From a zipped note."))
    (tmp_path / "c.jsonl").write_bytes(GOOD)
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert ids(tmp_path) == ["t1", "b/NOTE2.TXT.gz", "b/note.txt", "1"]
    assert ids(tmp_path, format="text") == ["b/NOTE2.TXT.gz", "b/note.txt"]
    assert ids(tmp_path / "b" / "note.txt") == ["note.txt"]


def test_a_folder_without_readable_files(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(ReaderError, match=r"holds no file to read. Expected .*\.txt"):
        read_passages(tmp_path)


def test_a_beir_folder_gives_its_corpus_only(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(GOOD)
    (tmp_path / "queries.jsonl").write_bytes(b'{"_id": "q", "text": "Why?"}\n')
    assert ids(tmp_path) == ["1"]


def test_text_files_that_are_no_passage(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Good.")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_bytes(b"")
    (tmp_path / "d.txt").write_bytes(b"a" * ((16 << 20) + 1))
    report = ReadReport()
    assert ids(tmp_path, bad_lines="skip", report=report) == ["a.txt"]
    reasons = [skipped.reason for skipped in report.skipped]
    assert [word in reason for word, reason in zip(("UTF-8", "empty", "16 MiB"), reasons, strict=True)] == [True] * 3
