"""Notes as people keep them: HTML, Word, archives, other compressions and encodings, mixed folders."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.files import word_file, zipped
from support.spoil import spoil_bytes

from biorerank_plugins._common.versions import install_line
from biorerank_plugins.errors import MissingExtraError, ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

LINE = b'{"id": "1", "text": "Statins cause muscle pain."}\n'
PAGE = """<!DOCTYPE html><html><head><title>Sodium &amp; water</title><style>.a{}</style></head><body>
<nav><a href="/">Home</a></nav><h1>Sodium</h1><p>A rise of 10<sup>6</sup> is <b>too</b> much.<br>Check it.</p>
<script>var x = "evil";</script><h2>Treatment</h2><ul><li>Water</li><li>Salt</li></ul>
<table><tr><th>Drug</th><th>Dose</th></tr><tr><td>NaCl</td><td>1 g</td></tr></table>
<footer>Imprint</footer></body></html>"""


def read(data: bytes, **options: Any) -> list[Passage]:
    return list(read_passages(io.BytesIO(data), **options))


def test_html_becomes_sections_without_the_page_around_them(tmp_path: Path):
    for name in ("page.html", "page.txt"):
        (tmp_path / name).write_text(PAGE, encoding="utf-8")
        first, second = read_passages(tmp_path / name)
        assert (first.id, first.title) == (f"{name}#1", "Sodium & water")
        assert (first.text, first.metadata["section"]) == ("A rise of 10^6 is too much. Check it.", "Sodium")
        assert second.text.split("\n\n") == ["Water", "Salt", "Drug Dose", "NaCl 1 g"]
        assert second.metadata["section"] == "Treatment"
        [whole] = read_passages(tmp_path / name, passages="whole")
        assert whole.text.startswith("# Sodium\n\nA rise") and "Imprint" not in whole.text


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ('<html><meta charset="iso-8859-1"><p>Müller – naïve'.encode("cp1252"), {}),
        ("<html><p>Müller – naïve".encode("cp1252"), {"encoding": "windows-1252"}),
        ("<html><p>Müller – naïve".encode("utf-16"), {}),
        ("<html><p>Müller – naïve".encode("utf-8-sig"), {}),
        ('<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><p>Müller – naïve</p></html>'
         .encode(), {}),
    ],
)  # fmt: skip
def test_html_in_the_encoding_that_it_says(data: bytes, options: dict[str, str]):
    assert [one.text for one in read(data, **options)] == ["Müller – naïve"]


def test_html_that_says_nothing_is_utf_8_or_refused():
    assert read("<html><p>Müller".encode())[0].text == "Müller"
    with pytest.raises(ReaderError, match=r"Not valid utf-8.*--encoding"):
        read("<html><p>Müller".encode("cp1252"))


def test_word_files(tmp_path: Path):
    (tmp_path / "note.docx").write_bytes(word_file("A first paragraph.", "A second one &amp; more."))
    [whole] = read_passages(tmp_path)
    assert whole == Passage("note.docx", "A first paragraph.\n\nA second one & more.")
    with pytest.raises(ReaderError, match="is empty"):
        read(word_file())


def test_a_missing_word_reader_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "mammoth", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("office"))):
        read(word_file("x"))


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.compress,
     lambda data: zstandard.compress(data[:20]) + zstandard.compress(data[20:])],
)  # fmt: skip
def test_every_compression_by_content_and_cut_short(tmp_path: Path, pack: Any):
    data = LINE * 50 + b'{"id": "2", "text": "' + b"x" * 300_000 + b'"}\n'
    for name in ("corpus.jsonl", "corpus.jsonl.bz2"):
        (tmp_path / name).write_bytes(pack(data))
    assert [one.id for one in read_passages(tmp_path / "corpus.jsonl")] == ["1"] * 50 + ["2"]
    assert len(list(read_passages(tmp_path / "corpus.jsonl.bz2"))) == 51
    with pytest.raises(ReaderError, match="damaged or cut short"):
        read(pack(data)[:-5], bad_lines="skip")


def test_an_archive_is_read_as_a_folder_is(tmp_path: Path):
    members = {
        "b/note.txt": b"A note.",
        "a.jsonl.gz": gzip.compress(LINE),
        "sheet.docx": word_file("From Word."),
        "__MACOSX/b/._note.txt": b"junk",
        ".hidden/x.txt": b"hidden",
        "picture.PNG": b"\x89PNG",
        "Makefile": b"all:",
    }
    (tmp_path / "notes.zip").write_bytes(zipped(members))
    report = ReadReport()
    found = list(read_passages(tmp_path / "notes.zip", report=report))
    assert [one.id for one in found] == ["1", "notes.zip/b/note.txt", "notes.zip/sheet.docx"]
    assert report.left_out == {".png": 1, "without a suffix": 1}
    assert [one.id for one in read_passages(tmp_path)] == [one.id for one in found]
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.zip"]


def _encrypted() -> bytes:
    data = bytearray(zipped({"a.txt": b"Text"}))
    data[6] |= 1  # in the local header, and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped({"../../etc/cron.d/x.txt": b"evil"}), "leads out of the archive"),
        (zipped({"/etc/x.txt": b"evil"}), "leads out of the archive"),
        (zipped({"bomb.txt": b"0" * (64 << 20)}), "ZIP bomb"),
        (zipped({"inner.zip": zipped({"a.txt": b"x"})}), "archive in an archive"),
        (zipped({"a.png": b"x"}), "holds no passages"),
        # Named: a short archive would name itself, by the second in which it was made.
        pytest.param(zipped({"a.txt": b"x"})[:-30], "ZIP archive is damaged", id="cut short"),
        (_encrypted(), "encrypted"),
        (zipped({"ppt/presentation.xml": b"<a/>"}), "PowerPoint.*PDF"),
        (zipped({"content.xml": b"<a/>"}), "OpenDocument"),
        (zipped({"xl/workbook.xml": b"<a/>", "xl/big.xml": b"0" * (64 << 20)}), "ZIP bomb"),
        (zipped({"xl/workbook.xml": b"<a/>"}), "Excel file is damaged"),
        (zipped({"word/document.xml": b"<a/>"}), "Word file is damaged"),
    ],
)
def test_archives_that_mean_harm_or_are_none(data: bytes, message: str, tmp_path: Path):
    with pytest.raises(ReaderError, match=message):
        read(data)
    report = ReadReport()
    assert read(data, bad_lines="skip", report=report) == []
    assert report.n_skipped >= 1


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("id\ttext\n1\tMüller nimmt 5 µg\n".encode("utf-16"), {}),
        ("id\ttext\n1\tMüller nimmt 5 µg\n".encode("cp1252"), {"encoding": "windows-1252"}),
        ("id\ttext\n1\tMüller nimmt 5 µg\n".encode("utf-8-sig"), {"encoding": "windows-1252"}),
        (gzip.compress("id\ttext\n1\tMüller nimmt 5 µg\n".encode("latin-1"), mtime=0), {"encoding": "latin-1"}),
    ],
)
def test_texts_of_other_encodings(data: bytes, options: dict[str, str]):
    assert [one.text for one in read(data, format="tsv", **options)] == ["Müller nimmt 5 µg"]


def test_a_folder_may_hold_texts_of_several_encodings(tmp_path: Path):
    for encoding in ("cp1252", "utf-8", "utf-8-sig", "utf-16", "ascii"):
        (tmp_path / f"{encoding}.txt").write_bytes(
            ("Aspirin" if encoding == "ascii" else "Müller, 5 µg").encode(encoding)
        )
    assert [one.text for one in read_passages(tmp_path, encoding="cp1252")] == ["Aspirin", *["Müller, 5 µg"] * 4]


def test_a_text_of_another_encoding_never_becomes_garbage():
    data = "id\ttext\n1\tMüller\n".encode("cp1252")
    with pytest.raises(ReaderError, match=r"Not valid UTF-8.*encoding='windows-1252' \(--encoding\)"):
        read(data)
    with pytest.raises(ReaderError, match="The text is not utf-16"):
        read(data, format="tsv", encoding="utf-16-le")
    for encoding in ("klingon", "zip", "rot13"):
        with pytest.raises(ValueError, match="no encoding of text"):
            read(data, encoding=encoding)


def test_a_mixed_folder_says_what_it_left_out(tmp_path: Path):
    (tmp_path / "good.txt").write_text("A note.")
    (tmp_path / "references.txt").write_text("@article{a, title={A}}")
    (tmp_path / "export.xml").write_text("<records></records>")
    (tmp_path / "really.pdf").write_bytes(LINE)
    (tmp_path / "old.docx").write_bytes(b"\xd0\xcf\x11\xe0rest")
    (tmp_path / "table.xlsx").write_bytes(b"no table")
    for name in ("a.py", "b.PY", "c.tar", "LICENSE"):
        (tmp_path / name).write_text("x")
    report = ReadReport()
    assert [one.id for one in read_passages(tmp_path, bad_lines="skip", report=report)] == ["good.txt", "1"]
    assert report.left_out == {".py": 2, ".tar": 1, "without a suffix": 1}
    reasons = {Path(one.path).name: one.reason for one in report.skipped}
    words = {"export.xml": "EndNote", "old.docx": "old Office", "references.txt": "BibTeX", "table.xlsx": "no .xlsx"}
    assert reasons.keys() == words.keys()
    assert [word for name, word in words.items() if word not in reasons[name]] == []
    with pytest.raises(ReaderError, match="EndNote"):
        list(read_passages(tmp_path))


def test_an_article_in_several_formats_keeps_one_id(tmp_path: Path):
    (tmp_path / "a.nbib").write_text("PMID- 7\nTI  - T\nAB  - Text.\n")
    (tmp_path / "b.csv").write_text("PMID,Abstract\n7,Text.\n")
    (tmp_path / "c.jsonl").write_text('{"pmid": 7, "abstract": "Text."}\n')
    assert [(one.id, one.metadata["pmid"]) for one in read_passages(tmp_path)] == [("7", "7")] * 3


@given(st.integers(0, 2**32))
def test_spoilt_pages_and_archives_raise_nothing_but_the_package_s_own_error(seed: int):
    chance = random.Random(seed)
    good = chance.choice([PAGE.encode(), word_file("x"), zipped({"a.html": PAGE.encode()}), zstandard.compress(LINE)])
    for bad_lines in ("error", "skip"):
        try:
            read(spoil_bytes(good, chance), bad_lines=bad_lines)
        except ReaderError as error:
            assert str(error)
