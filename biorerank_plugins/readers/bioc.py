"""BioC, XML or JSON: full texts of PMC and what PubTator gives; annotations are not read.

Passages that are references, statements of authors, or cells of tables are left out; headings become the sections of
what stands under them. https://www.ncbi.nlm.nih.gov/research/bionlp/APIs/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from biorerank_plugins.articles.identifiers import as_pmid, as_year
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.json_stream import EACH, array_items
from biorerank_plugins.readers.jsonl import parse_items, parse_records
from biorerank_plugins.readers.records import as_text, listed
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.sections import ABSTRACT, Section, document_passages
from biorerank_plugins.readers.source import OpenFile

_DOCUMENT = re.compile(rb'(?<!\\)"passages"\s*:\s*\[')
_COLLECTION = re.compile(rb'(?<!\\)"documents"\s*:\s*\[')
_PUBTATOR = re.compile(rb'\s*\{\s*"PubTator3"\s*:\s*\[')
_LEFT_OUT = {"REF", "COMP_INT", "AUTH_CONT", "ACK_FUND"}
_NO_TEXT = {"ref", "table", "footnote", "table_footnote"}
_AUTHOR = re.compile(r"surname:([^;]*)(?:;given-names:([^;]*))?")
Parts = list[tuple[dict[str, str], str]]
"""Infons and text of each passage."""


def is_bioc(head: bytes) -> bool:
    """Tell JSON of BioC by its beginning."""
    return b'"infons"' in head and _DOCUMENT.search(head) is not None


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of each document."""
    read_form = _from_xml if file.begin.startswith(b"<") else _from_json
    return chain.from_iterable(read_form(file, reading))


def _from_json(file: OpenFile, reading: Reading) -> Iterator[list[Passage]]:
    def parse(number: int, record: dict[str, Any]) -> list[Passage]:
        if not isinstance(listed_parts := record.get("passages"), list):
            raise Malformed(f"No list 'passages'; the keys are: {listed(record)}.")
        infons, parts = _infons(record), [_part(one) for one in listed_parts]
        id_ = str(record.get("pmid") or record.get("id") or f"{file.id}#{number}")
        return list(_passages(id_, infons, parts, reading))

    begin = file.begin
    path: tuple[str, ...] = ()
    if _PUBTATOR.match(begin):
        path = ("PubTator3",)
    elif _COLLECTION.search(begin):
        path = (EACH, "documents") if begin.startswith(b"[") else ("documents",)
    elif not begin.startswith(b"["):
        return parse_records(file, reading, parse)  # a document a line
    return parse_items(array_items(file, *path), file, reading, parse)


def _part(value: Any) -> tuple[dict[str, str], str]:
    if not isinstance(value, dict):
        raise Malformed("A passage must be an object.")
    text = value.get("text")
    if not text:  # some files have sentences instead
        sentences = [one.get("text") for one in value.get("sentences") or [] if isinstance(one, dict)]
        text = " ".join(one for one in sentences if isinstance(one, str))
    return _infons(value), as_text(text) if text else ""


def _infons(value: dict[str, Any]) -> dict[str, str]:
    infons = value.get("infons")
    if not isinstance(infons, (dict, type(None))):
        raise Malformed("'infons' must be an object.")
    return {name: str(one) for name, one in (infons or {}).items() if isinstance(one, (str, int))}


def _from_xml(file: OpenFile, reading: Reading) -> Iterator[list[Passage]]:
    from biorerank_plugins.readers.xml import check_head, elements, no_entities, readable

    root = check_head(file, ("collection", "document"), "BioC (<collection>)")
    for number, (line, element) in enumerate(elements(file.stream, file.name, root, ("document",), "document"), 1):
        with reading.noting(file.name, line):
            no_entities(element)
            parts: Parts = []
            for passage in element.iterfind("passage"):
                texts = passage.findall("text") or passage.findall("sentence/text")
                parts.append((_xml_infons(passage), " ".join(readable(text) for text in texts)))
            id_ = readable(element.find("id")) or f"{file.id}#{number}"
            yield list(_passages(id_, _xml_infons(element), parts, reading))


def _xml_infons(element: Any) -> dict[str, str]:
    return {infon.get("key") or "": "".join(infon.itertext()).strip() for infon in element.iterfind("infon")}


def _passages(id_: str, infons: dict[str, str], parts: Parts, reading: Reading) -> Iterator[Passage]:
    front = next((one for one, _ in parts if _is_title(one)), {})
    about = {**infons, **front}
    pmcid = about.get("article-id_pmc", "") or (id_ if id_.upper().startswith("PMC") else "")
    pmcid = f"PMC{pmcid}" if pmcid.isdigit() else pmcid
    pmid = as_pmid(about.get("article-id_pmid", "")) or as_pmid(id_)
    names = [found for key, value in about.items() if key.startswith("name_") and (found := _AUTHOR.match(value))]
    metadata = {
        "pmid": pmid,
        "pmcid": pmcid,
        "doi": about.get("article-id_doi"),
        "authors": [", ".join(part for part in name.groups() if part) for name in names],
        "journal": about.get("journal") or about.get("journal-title"),
        "year": as_year(about.get("year")),
    }
    title = " ".join(next((text for one, text in parts if _is_title(one)), "").split())
    return document_passages(reading, pmcid or pmid or id_, title, _sections(parts), metadata)


def _is_title(infons: dict[str, str]) -> bool:
    return infons.get("type", "").lower() in ("front", "title") or infons.get("section_type") == "TITLE"


def _sections(parts: Parts) -> Iterator[Section]:
    """Put together what stands under one heading."""
    headings: list[str] = []
    found: list[tuple[str, str, list[str]]] = []
    for infons, text in parts:
        type_, kind = infons.get("type", "").lower(), infons.get("section_type", "").upper()
        text = " ".join(text.split())
        if not text or _is_title(infons) or kind in _LEFT_OUT or type_ in _NO_TEXT:
            continue
        if level := re.fullmatch(r"(?:abstract_)?title_([1-9])", type_):
            headings = [*headings[: int(level[1]) - 1], text]
            continue
        if kind == "ABSTRACT" or type_ == "abstract":
            label = headings[-1] if headings and type_ == "abstract" and kind else ""
            text = f"{label}: {text}" if label and label.lower() != "abstract" else text
            heading, kind = ABSTRACT, ""
        else:
            heading = " > ".join(headings)
        if not found or found[-1][:2] != (heading, kind):
            found.append((heading, kind, []))
        found[-1][2].append(text)
    for heading, kind, texts in found:
        yield Section(heading, ("\n" if heading == ABSTRACT else "\n\n").join(texts), kind)
