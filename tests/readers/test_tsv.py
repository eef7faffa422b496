"""Tab-separated passages: headers, quoting of both habits, malformed rows."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def read(text: str, **options: object) -> list[Passage]:
    return list(read_passages(io.BytesIO(text.encode()), format="tsv", **options))  # type: ignore[arg-type]


def test_with_and_without_header() -> None:
    assert read("1\tText.\n2\tMore.\n") == [Passage("1", "Text."), Passage("2", "More.")]
    assert read("1\tText.\tTitle\n2\tMore.\t\n") == [Passage("1", "Text.", "Title"), Passage("2", "More.")]
    assert read("Title\tText\tYear\t_id\nT\tA\t2001\t1\n") == [Passage("1", "A", "T", {"Year": "2001"})]
    [passage] = read("id\ttext\tdocument\n1\tA\thttp://www.ncbi.nlm.nih.gov/pubmed/5\n")
    assert passage.metadata["pmid"] == "5"


def test_quoted_fields_of_spreadsheets_and_bare_quotes_of_collections() -> None:
    quoted = '1\t"A ""big"" text,\r\nover two lines\twith a tab"\tT\n2\tB\tT\n'
    assert [p.text for p in read(quoted)] == ['A "big" text,\r\nover two lines\twith a tab', "B"]
    bare = '1\t"In vitro" is not in vivo\n2\ta 5" tube\n3\t"never closed\n4\tlast\n'
    assert [p.text for p in read(bare)] == ['"In vitro" is not in vivo', 'a 5" tube', '"never closed', "last"]


def test_a_stray_quote_does_not_swallow_what_follows() -> None:
    rows = ['0\t"open', *(f"{number}\ttext {number}" for number in range(1, 3000)), '3000\t"closed" again']
    assert [p.id for p in read("\n".join(rows))] == [str(number) for number in range(3001)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("only", "Expected 2 columns"),
        ("2\ta\tb", r"Expected 2 columns \(id, text\), got 3"),
        ("\ta", "id is empty"),
        ("2\t ", "text is empty"),
    ],
)
def test_malformed_rows(row: str, reason: str) -> None:
    with pytest.raises(ReaderError, match=reason) as caught:
        read(f"1\tText.\n{row}\n3\tMore.\n")
    assert caught.value.line == 2
    report = ReadReport()
    assert [p.id for p in read(f"1\tText.\n{row}\n3\tMore.\n", bad_lines="skip", report=report)] == ["1", "3"]
    assert report.n_skipped == 1


def test_a_first_row_that_is_neither_header_nor_passage() -> None:
    with pytest.raises(ReaderError, match="Expected a header with id and text, or 2 or 3"):
        read("a\tb\tc\td\n")
    with pytest.raises(ReaderError, match="names a column twice"):
        read("id\ttext\ttext\n")


def test_a_line_of_bad_bytes_inside_a_quoted_field_is_reported_by_itself() -> None:
    data = b'1\t"open\n\xff\n2\tclosed"\n'
    report = ReadReport()
    passages = list(read_passages(io.BytesIO(data), format="tsv", bad_lines="skip", report=report))
    assert [(p.id, p.text) for p in passages] == [("1", '"open'), ("2", 'closed"')]
    assert [s.line for s in report.skipped] == [2]


def test_a_long_field_is_read() -> None:
    """The csv module's own limit is 131,072 characters."""
    [passage] = read('1\t"' + "a" * 1_000_000 + '"\n')
    assert len(passage.text) == 1_000_000


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4))
def test_any_text_that_the_csv_module_wrote_comes_back(rows: list[tuple[str, str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter="\t").writerows([("id", "text", "title"), *rows])
    assert read(file.getvalue()) == [Passage(*row) for row in rows]
