"""Lay passages out as PDF articles: two columns, running heads, page numbers, hyphens at ends of lines, references.

    python examples/own_corpus/make_pdfs.py passages.jsonl --out papers --count 24

Beside the files, ``truth.jsonl`` says which sentences stand in which file, so that reading them can be checked.
Needs: pip install reportlab pyphen
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import BaseDocTemplate, Frame, FrameBreak, NextPageTemplate, PageTemplate, Paragraph

from biorerank_plugins import Passage
from biorerank_plugins.readers import read_passages
from biorerank_plugins.text.sentences import split_sentences

WIDTH, HEIGHT = A4
MARGIN, GAP, TITLE_HEIGHT = 50, 20, 90
BODY = ParagraphStyle("body", fontName="Times-Roman", fontSize=9.5, leading=11.5, alignment=4, firstLineIndent=10)
BODY.hyphenationLang, BODY.hyphenationMinWordLength = "en_GB", 6
HEADING = ParagraphStyle("heading", fontName="Times-Bold", fontSize=12, leading=15, spaceBefore=8, spaceAfter=3)
TITLE = ParagraphStyle("title", fontName="Times-Bold", fontSize=17, leading=20, alignment=1)
REFERENCE = ParagraphStyle("reference", fontName="Times-Roman", fontSize=8, leading=9.5)
SECTIONS = ("Introduction", "Methods", "Results", "Discussion")


def printable(text: str) -> str:
    """Return text in the letters that the built-in fonts have."""
    return " ".join(text.encode("cp1252", "ignore").decode("cp1252").split())


def running_head(canvas: Any, document: Any) -> None:
    """Draw what stands on every page."""
    canvas.setFont("Times-Italic", 8)
    canvas.drawString(MARGIN, HEIGHT - 30, f"J Made Ex 12 (2024) {100 + document.page}")
    canvas.drawRightString(WIDTH - MARGIN, HEIGHT - 30, "Author et al.")
    canvas.drawCentredString(WIDTH / 2, 25, str(document.page))


def make_pdf(path: Path, title: str, passages: list[Passage]) -> list[str]:
    """Write an article; return its sentences."""
    column = (WIDTH - 2 * MARGIN - GAP) / 2
    low, high = 45, HEIGHT - 45
    below = high - TITLE_HEIGHT

    def frames(top: float) -> list[Frame]:
        return [
            Frame(x, low, column, top - low, leftPadding=0, rightPadding=0) for x in (MARGIN, MARGIN + column + GAP)
        ]

    first = [Frame(MARGIN, below, WIDTH - 2 * MARGIN, TITLE_HEIGHT), *frames(below)]
    document = BaseDocTemplate(str(path), pagesize=A4)  # no /Title: many PDFs have none
    document.addPageTemplates(
        [
            PageTemplate("first", first, onPage=running_head),
            PageTemplate("later", frames(high), onPage=running_head),
        ]
    )
    story: list[Any] = [NextPageTemplate("later"), Paragraph(escape(title), TITLE), FrameBreak()]
    sentences: list[str] = []
    share = -(-len(passages) // len(SECTIONS))
    for number, section in enumerate(SECTIONS):
        story.append(Paragraph(section, HEADING))
        for passage in passages[number * share : (number + 1) * share]:
            text = printable(passage.text)
            story.append(Paragraph(escape(text), BODY))
            sentences += [text[start:end].strip() for start, end in split_sentences(text)]
    story.append(Paragraph("References", HEADING))
    for number in range(1, 25):
        line = f"{number}. Author A, Writer B. An article that is not there. J Made Ex. 20{number:02d};{number}:1-9."
        story.append(Paragraph(line, REFERENCE))
    document.build(story)
    return sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("passages", help="a file that biorerank reads")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--per-file", type=int, default=24, help="passages of a file; each is a paragraph")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    long_ones = (one for one in read_passages(options.passages) if len(one.text) > 200 and one.text.endswith("."))
    with (options.out / "truth.jsonl").open("w", encoding="utf-8") as truth:
        for number in range(1, options.count + 1):
            passages = list(islice(long_ones, options.per_file))
            if not passages:
                break
            path = options.out / f"paper{number:02d}.pdf"
            title = printable(" ".join(passages[0].text.split()[:10])).rstrip(".,;:")
            sentences = make_pdf(path, title, passages)
            truth.write(json.dumps({"file": path.name, "title": title, "sentences": sentences}) + "\n")
            print(f"{path}: {len(sentences)} sentences")


if __name__ == "__main__":
    main()
