"""PDF files: reading order, hyphens, what is left out, and files that cannot be read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport, read_passages
from biorerank_plugins.readers.pdf_layout import Line, paragraphs, reading_order

pytest.importorskip("pypdf")
canvas = pytest.importorskip("reportlab.pdfgen.canvas")

Draw = Callable[..., None]


def pdf(draw: Draw, *, title: str | None = None, password: str | None = None, pages: int = 1) -> bytes:
    from reportlab.lib.pdfencrypt import StandardEncryption

    stream = io.BytesIO()
    sheet = canvas.Canvas(stream, encrypt=None if password is None else StandardEncryption(password))
    if title is not None:
        sheet.setTitle(title)
    for number in range(pages):
        draw(sheet, number)
        sheet.showPage()
    sheet.save()
    return stream.getvalue()


def column(sheet, x: float, y: float, lines: list[str], size: float = 10) -> None:
    sheet.setFont("Times-Roman", size)
    for number, line in enumerate(lines):
        sheet.drawString(x, y - 12 * number, line)


def texts(data: bytes) -> list[str]:
    return [passage.text for passage in read_passages(io.BytesIO(data), format="pdf")]


LEFT = [
    "Aspirin inhibits the enzyme that makes throm-",
    "boxane, so that platelets stick less. The",
    "dose is low.",
] * 4
RIGHT = ["Metformin lowers the glucose that the liver", "makes, and is given first in type 2 dia-", "betes."] * 4


def test_columns_are_read_one_after_another_and_hyphens_undone():
    """The right column is drawn first: what counts is where it stands."""

    def draw(sheet, _):
        column(sheet, 320, 700, RIGHT)
        column(sheet, 50, 700, LEFT)

    text = " ".join(texts(pdf(draw)))
    assert text.startswith("Aspirin inhibits the enzyme that makes thromboxane, so that platelets stick less.")
    assert text.count("thromboxane") == text.count("diabetes.") == 4
    assert text.rindex("dose is low.") < text.index("Metformin")


def test_running_heads_page_numbers_and_references_are_left_out():
    def draw(sheet, number):
        column(sheet, 50, 800, [f"J Made Ex 12, {100 + number}"], size=8)
        column(sheet, 300, 30, [str(number + 1)], size=8)
        column(sheet, 50, 700, [f"This is the {('first', 'second', 'third')[number]} page.", *LEFT])
        if number == 2:
            sheet.setFont("Times-Bold", 13)
            sheet.drawString(50, 500, "References")
            column(sheet, 50, 480, ["1. Author A. On aspirin. J Made Ex 2001;1:1-9."], size=8)

    text = " ".join(texts(pdf(draw, pages=3)))
    assert "J Made" not in text
    assert "Author A" not in text
    assert text.count("thromboxane") == 12
    assert all(f"This is the {word} page." in text for word in ("first", "second", "third"))
    assert not any(part.isdigit() for part in text.split())


def test_title_sections_and_pages_are_metadata():
    def draw(sheet, number):
        if number == 0:
            column(sheet, 50, 780, ["On aspirin and platelets"], size=20)
        sheet.setFont("Times-Bold", 13)
        sheet.drawString(50, 720, ("Methods", "Results")[number])
        column(sheet, 50, 700, LEFT)

    first, *_, last = list(read_passages(io.BytesIO(pdf(draw, pages=2)), format="pdf"))
    assert (first.title, last.title) == ("On aspirin and platelets",) * 2
    assert (first.metadata["section"], first.metadata["page"]) == ("Methods", 1)
    assert (last.metadata["section"], last.metadata["page"]) == ("Results", 2)
    assert first.id.endswith("#1")
    named = next(read_passages(io.BytesIO(pdf(draw, title="A stored title", pages=2)), format="pdf"))
    assert named.title == "A stored title"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["It needs TNF-", "alpha to work."], "It needs TNF-alpha to work."),
        (["It needs in-", "sulin to work."], "It needs insulin to work."),
        (["A long-term trial. A long-", "term one."], "A long-term trial. A long-term one."),
        (["A dose-", "dependent effect."], "A dose-dependent effect."),
        (["The METH-", "ODS are these."], "The METHODS are these."),
        (["It is high-", "-order."], "It is high-order."),
        (["An e\ufb00ect of the \ufb01rst dose", "is small."], "An effect of the first dose is small."),
        (["From 5 -", "6 days."], "From 5 - 6 days."),
    ],
)
def test_hyphens_and_ligatures(lines: list[str], text: str):
    page = [Line(line, 50, 700 - 12 * number, 10) for number, line in enumerate(lines)]
    assert [one.text for one in paragraphs([page])] == [text]


def test_a_line_across_both_columns_parts_them():
    def side(x, y, word):
        return [Line(f"{word} {number} words of a column", x, y - 12 * number, 10) for number in range(4)]

    across = Line("This line is much longer than one column, so that it crosses both of them on the page", 50, 600, 10)
    lines = [*side(300, 700, "b"), *side(50, 700, "a"), across, *side(300, 580, "d"), *side(50, 580, "c")]
    order = "".join(line.text[0] for line in reading_order(lines))
    assert order == "aaaabbbbTccccdddd"


def test_three_columns():
    lines = [
        Line(f"{name} {number} of some words", x, 700 - 12 * number, 10)
        for name, x in (("b", 220), ("c", 390), ("a", 50))
        for number in range(10)
    ]
    assert "".join(line.text[0] for line in reading_order(lines)) == "a" * 10 + "b" * 10 + "c" * 10


def test_long_paragraphs_are_cut_between_sentences_and_nothing_is_lost():
    lines = ["This is one sentence of very many.", "Another one stands beside it here."] * 60
    page = [Line(line, 50, 2000 - 12 * number, 10) for number, line in enumerate(lines)]
    assert len(paragraphs([page])) == 1

    def draw(sheet, _):
        column(sheet, 50, 800, lines[:60])

    found = texts(pdf(draw))
    assert len(found) > 1
    assert max(map(len, found)) <= 1500
    assert " ".join(found) == " ".join(lines[:60])


def blank(sheet, _):
    sheet.rect(50, 50, 100, 100)


def some_text(sheet, _):
    column(sheet, 50, 700, LEFT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pdf(blank), "holds no text.*ocrmypdf"),
        (pdf(some_text, password="secret"), "protected by a password"),
        (pdf(some_text)[:300], "damaged"),
        (b"%PDF-1.7\n" + b"\x00" * 100, "damaged"),
        (b"{}", "damaged"),
        (b"PK\x03\x04 word", "an Office file|ZIP"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "b.pdf").write_bytes(data)
    (tmp_path / "c.pdf").write_bytes(pdf(some_text))
    with pytest.raises(ReaderError, match=message):
        list(read_passages(tmp_path / "b.pdf", format="pdf"))
    report = ReadReport()
    found = list(read_passages(tmp_path, format="pdf", bad_lines="skip", report=report))
    assert {passage.metadata["source"] for passage in found} == {"c.pdf"}
    assert [Path(one.path).name for one in report.skipped] == ["b.pdf"]


def test_a_bomb_is_refused_before_it_fills_the_memory():
    """A page whose content is 200 MB of blanks, packed into 200 kB."""
    import zlib

    data = pdf(some_text)
    stream = zlib.compress(b" " * 200_000_000, 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(stream) + stream + b"\nendstream",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start
    with pytest.raises(ReaderError, match=r"page of the PDF is damaged|holds no text"):
        texts(data)


def test_a_folder_of_several_kinds(tmp_path: Path):
    (tmp_path / "paper.pdf").write_bytes(pdf(some_text))
    (tmp_path / "note.txt").write_text("A note.", encoding="utf-8")
    found = list(read_passages(tmp_path))
    assert [passage.id.split("#")[0] for passage in found] == ["note.txt", *["paper.pdf"] * (len(found) - 1)]


@pytest.mark.parametrize(
    ("name", "data", "count"),
    [("q.pdf", b"q1\tWhat is p53?\n", 1), ("q.txt", b" %PDF-1.4 What?\n", 1), ("q.txt", b"%PDF-1.4 What?\n", 0)],
)
def test_the_content_tells_questions_from_a_pdf(tmp_path: Path, name: str, data: bytes, count: int):
    from biorerank_plugins.readers import read_queries

    (tmp_path / name).write_bytes(data)
    if count:
        assert len(read_queries(tmp_path / name)) == count
        return
    with pytest.raises(ReaderError, match="is a PDF file"):
        read_queries(tmp_path / name)
