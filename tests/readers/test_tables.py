"""Tables of every kind: keys that the caller names, Excel, Parquet, JSON lists and chunks of other frameworks."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import excel, parquet, word_file, zipped

from biorerank_plugins._common.versions import install_line
from biorerank_plugins.errors import MissingExtraError, ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

HEADER = ["PMID", "Title", "Abstract", "Year"]
ROWS: list[list[Any]] = [[1, "A title", "Statins may cause\nmuscle pain.", 2019], [2, None, "Text, of 2", None]]
EXPECTED = [
    Passage("1", "Statins may cause\nmuscle pain.", "A title", {"pmid": "1", "Year": 2019}),
    Passage("2", "Text, of 2", None, {"pmid": "2"}),
]
WORD = st.text("abcdefg hijk,;\t\"'\n=", min_size=1, max_size=30).filter(str.strip)


def read(data: bytes, **options: Any) -> list[Passage]:
    return list(read_passages(io.BytesIO(data), **options))


def test_excel_by_content_whatever_its_name(tmp_path: Path):
    data = excel(("Articles", [HEADER, *ROWS]))
    assert read(data) == EXPECTED
    assert read(gzip.compress(data)) == EXPECTED
    (tmp_path / "table.csv").write_bytes(data)
    assert list(read_passages(tmp_path)) == EXPECTED


def test_excel_sheets_dates_and_numbers():
    day = datetime.datetime(2019, 7, 4)
    data = excel(
        ("Read me", [["This file holds abstracts."]]),
        ("2019", [["id", "text", "on", "share", ""], [7.0, "One.", day, 0.5, "no name"], [], ["8", "Two."]]),
        ("2020", [["Text", "ID"], ["Three.", "x9"]]),
    )
    report = ReadReport()
    first, second, third = read(data, report=report)
    assert (first.id, dict(first.metadata)) == ("7", {"on": "2019-07-04T00:00:00", "share": 0.5})
    assert [one.id for one in (second, third)] == ["8", "x9"]
    assert report.left_out == {"sheet without passages": 1}


def test_excel_of_formulas_without_values_is_told():
    rows = [["id", "text"], [1, "Plain."], [2, '=CONCATENATE("a","b")'], [3, None], [4, "=A1"]]
    report = ReadReport()
    assert [one.id for one in read(excel(("S", rows)), bad_lines="skip", report=report)] == ["1"]
    assert ["formula" in one.reason for one in report.skipped] == [True, False, True]
    assert [one.line for one in report.skipped] == [3, 4, 5]
    with pytest.raises(ReaderError, match=r"Sheet 'S': The cell holds the formula '=CONCAT.*save it there"):
        read(excel(("S", rows)))


def test_excel_gives_the_value_that_was_saved_with_a_formula():
    data = io.BytesIO(excel(("S", [["id", "text"], [1, '="a"&"b"']])))
    out = io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member.endswith("sheet1.xml"):
                assert b"<v" in content
                content = content.replace(b"<v />", b"<v>the value</v>").replace(b"<v></v>", b"<v>the value</v>")
                content = content.replace(b'<c r="B2">', b'<c r="B2" t="str">')
            new.writestr(member, content)
    assert [one.text for one in read(out.getvalue())] == ["the value"]


def test_parquet_with_maps_structs_lists_and_gaps():
    data = parquet(
        pmid=pa.array([1, None, 3], pa.float64()),
        contents=["one", "two", " "],
        tags=[["a"], None, []],
        at=[datetime.date(2020, 1, 2), None, None],
        share=[0.5, float("nan"), None],
        metadata=pa.array([[("journal", "J")], None, None], pa.map_(pa.string(), pa.string())),
    )
    report = ReadReport()
    [only] = read(data, bad_lines="skip", report=report)
    assert (only.id, only.text) == ("1", "one")
    assert only.to_dict()["metadata"] == {
        "pmid": "1", "tags": ["a"], "at": "2020-01-02", "share": 0.5, "journal": "J",
    }  # fmt: skip
    assert [(one.line, one.reason.split(" (")[0].split(".")[0]) for one in report.skipped] == [
        (2, "No '_id'"),
        (3, "The text is empty"),
    ]
    nested = parquet(page_content=["x"], metadata=pa.array([{"id": "7", "page": 3}]))
    assert read(nested) == [Passage("7", "x", None, {"page": 3})]


@pytest.mark.parametrize("name", ["csv", "tsv", "xlsx", "parquet", "jsonl", "list"])
def test_keys_that_the_caller_names(name: str):
    columns, cells = ["Nr", "Summary", "Heading", "Year"], ["x1", "It lowers glucose.", "Metformin", "2001"]
    record = dict(zip(columns, cells, strict=True))
    data = {
        "csv": lambda: f"{','.join(columns)}\n{','.join(cells)}\n".encode(),
        "tsv": lambda: "\t".join(columns).encode() + b"\n" + "\t".join(cells).encode(),
        "xlsx": lambda: excel(("S", [columns, cells])),
        "parquet": lambda: parquet(**{key: [value] for key, value in record.items()}),
        "jsonl": lambda: json.dumps(record).encode(),
        "list": lambda: json.dumps([record], indent=2).encode(),
    }[name]()
    format_ = "jsonl" if name == "list" else name
    keys = {"id_key": "nr", "text_key": "Summary", "title_key": "Heading"}
    assert read(data, format=format_, **keys) == [Passage("x1", "It lowers glucose.", "Metformin", {"Year": "2001"})]
    with pytest.raises(ReaderError, match=r"Nr, Summary, Heading, Year.*--text-key"):
        read(data, format=format_)
    with pytest.raises(ReaderError, match=r"[Nn]o (column )?'Abstract'; the (columns|keys) are: Nr, Summary"):
        read(data, format=format_, id_key="Nr", text_key="Abstract")
    [unnamed] = read(data, format=format_, text_key="Summary")
    assert unnamed.id.startswith("<stream>#")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"page_content": "x", "metadata": {"source": "a.pdf"}}, Passage("<stream>#1", "x", None, {"source": "a.pdf"})),
        ({"id": None, "page_content": "x", "metadata": {}}, Passage("<stream>#1", "x")),
        ({"id_": "n1", "text": "x", "metadata": {"file": "a"}}, Passage("n1", "x", None, {"file": "a"})),
        ({"chunk_id": 3, "chunk_text": "x", "doc": "d"}, Passage("3", "x", None, {"doc": "d"})),
        ({"pmid": 7, "abstract": "x", "title": "T"}, Passage("7", "x", "T", {"pmid": "7"})),
        ({"docid": "d", "contents": "x"}, Passage("d", "x")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_chunks_of_other_frameworks(record: dict[str, Any], expected: Passage):
    assert read(json.dumps(record).encode()) == [expected]
    assert read(json.dumps([record], indent=1).encode()) == [expected if "#" not in expected.id else expected_at(2)]


def expected_at(line: int) -> Any:
    return type("Any", (), {"__eq__": lambda self, other: other.id == f"<stream>#{line}", "__hash__": None})()


def test_a_list_in_json_is_read_item_by_item_and_names_what_is_malformed():
    report = ReadReport()
    data = b'[\n{"id": 1, "text": "a"},\n{"id": 2},\n5,\n{"id": 3, "text": "b"}]'
    assert [one.id for one in read(data, bad_lines="skip", report=report)] == ["1", "3"]
    assert [one.line for one in report.skipped] == [3, 4]
    with pytest.raises(ReaderError, match=r"expected ','|Not valid JSON"):
        read(b'[{"id": 1, "text": "a"}, {"id": 2', bad_lines="skip")


@given(st.lists(st.tuples(st.integers(1, 10**8), WORD, WORD), min_size=1, max_size=3, unique_by=lambda row: row[0]))
def test_every_table_gives_the_same_passages(rows: list[tuple[int, str, str]]):
    import csv

    header = ["id", "text", "title"]
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    expected = [(str(id_), text, title) for id_, text, title in rows]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    records = [dict(zip(header, row, strict=True)) for row in rows]
    for data, format_ in (
        (out.getvalue().encode(), "csv"),
        (parquet(**columns), "auto"),
        (json.dumps(records).encode(), "auto"),
        ("".join(json.dumps(record) + "\n" for record in records).encode(), "auto"),
    ):
        assert [(one.id, one.text, one.title) for one in read(data, format=format_)] == expected


@given(st.binary(max_size=300), st.sampled_from(["xlsx", "parquet", "docx", "zip"]), st.integers(0, 3000))
def test_spoilt_binary_files_raise_nothing_but_the_package_s_own_error(noise: bytes, kind: str, place: int):
    good = SPOILT[kind]
    place = place % len(good)
    for data in (good[:place] + noise + good[place + len(noise) :], good[:place], noise):
        for options in ({}, {"format": kind}, {"bad_lines": "skip"}):
            try:
                read(data, **options)
            except ReaderError as error:
                assert str(error)


SPOILT = {
    "xlsx": excel(("S", [HEADER, *ROWS])),
    "parquet": parquet(id=["1"], text=["x"]),
    "docx": word_file("A note."),
    "zip": zipped({"a.txt": b"Text of it. " * 20, "b.jsonl": b'{"id": "1", "text": "x"}\n'}),
}


def test_large_tables_need_little_memory(tmp_path: Path):
    path = tmp_path / "a.parquet"
    text = "word " * 1000
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("text", pa.string())])) as writer:
        for part in range(40):
            ids = [f"{part}-{number}" for number in range(100)]
            writer.write_table(pa.table({"id": ids, "text": [f"{one} {text}" for one in ids]}))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        most = 0
        for count, _ in enumerate(read_passages(path), start=1):
            most = max(most, pa.total_allocated_bytes() - before) if count % 50 == 0 else most
        assert count == 4000
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
        assert most < 12 << 20  # the file has 20 MB of text
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("module", "data"), [("openpyxl", SPOILT["xlsx"]), ("pyarrow", SPOILT["parquet"])])
def test_a_missing_extra_is_named(module: str, data: bytes, monkeypatch: pytest.MonkeyPatch):
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("formats"))):
        read(data)
