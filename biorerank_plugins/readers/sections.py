"""Documents with sections ► passages: what full texts of every format share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.text.cutting import cut_document

ABSTRACT = "Abstract"


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its heading, and its paragraphs with blank lines between them."""

    heading: str  # with those above it ("Methods > Patients"), "" if it has none
    text: str
    kind: str = ""  # what the file calls it (METHODS, FIG, …), if anything


@dataclass(frozen=True, slots=True)
class Document:
    """An article with its full text, or as much of it as there is."""

    id: str
    title: str  # "" if it has none
    sections: Sequence[Section]  # in order, the abstract first
    metadata: dict[str, Any]  # what holds of all its passages; values that say nothing are left out


def document_passages(document: Document, reading: Reading) -> Iterator[Passage]:
    """Give the passages ``id#1``, ``id#2``, … of a document, each with its section's heading under ``section``.

    An abstract stays whole. A longer section is cut at paragraphs and sentences, unless the reading wants it whole.
    """
    known = {name: value for name, value in document.metadata.items() if value not in (None, "", [])}
    number = 0
    for section in document.sections:
        about = {"section": section.heading, "section_type": section.kind}
        more = {name: value for name, value in about.items() if value}
        for text in _parts(section, reading):
            number += 1
            yield Passage(f"{document.id}#{number}", text, document.title or None, {**known, **more})
    if not number:
        if not document.title:
            raise Malformed(f"{document.id} has neither a text nor a title.")
        yield Passage(document.id, document.title, None, {"section": "title", **known})


def _parts(section: Section, reading: Reading) -> list[str]:
    text = section.text.strip()
    if not text or reading.whole or section.heading == ABSTRACT:
        return [text] if text else []
    return [text[part.start : part.end] for part in cut_document(text)]
