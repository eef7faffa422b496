"""Documents with sections ► passages: what full texts of every format share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


def document_passages(
    reading: Reading, id_: str, title: str, sections: Iterable[Section], metadata: Mapping[str, Any]
) -> Iterator[Passage]:
    """Give the passages ``id#1``, ``id#2``, … of a document, each with its section's heading under ``section``.

    An abstract stays whole. A longer section is cut at paragraphs and sentences, unless the reading wants it whole.

    :param title: ``""`` if it has none.
    :param metadata: what holds of all its passages; values that say nothing are left out.
    """
    known = {name: value for name, value in metadata.items() if value not in (None, "", [])}
    number = 0
    for section in sections:
        about = {"section": section.heading, "section_type": section.kind}
        more = {name: value for name, value in about.items() if value}
        for text in _parts(section, reading):
            number += 1
            yield Passage(f"{id_}#{number}", text, title or None, {**known, **more})
    if not number:
        if not title:
            raise Malformed(f"{id_} has neither a text nor a title.")
        yield Passage(id_, title, None, {"section": "title", **known})


def _parts(section: Section, reading: Reading) -> list[str]:
    text = section.text.strip()
    if not text or reading.whole or section.heading == ABSTRACT:
        return [text] if text else []
    return [text[part.start : part.end] for part in cut_document(text)]
