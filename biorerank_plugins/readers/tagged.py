"""Exports of reference managers and of PubMed with a tag a line: MEDLINE (``.nbib``) and RIS.

MEDLINE: https://www.nlm.nih.gov/bsd/mms/medlineelements.html. RIS: its tags differ from writer to writer, so several
are looked for. Both are read in one way: a tag of two to four capitals, a hyphen, a value; what has no tag goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from biorerank_plugins.articles.identifiers import as_year, pmid_in_address
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import MAX_LINE, chomp, decode_line, raw_lines
from biorerank_plugins.readers.records import article_passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_TAG = re.compile(r"([A-Z][A-Z0-9]{1,3}) *- ?(.*)", re.DOTALL)
Record = dict[str, list[str]]


def read_medline(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each record of a MEDLINE export."""
    return _read(file, reading, "PMID", _medline)


def read_ris(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each record of a RIS file; one without an id is called by the file and its number."""
    return _read(file, reading, "TY", _ris)


def _read(file: OpenFile, reading: Reading, first: str, make: Callable[[Record, str], Passage]) -> Iterator[Passage]:
    for number, (line, record) in enumerate(_records(file, reading, first), start=1):
        with reading.noting(file.name, line, f"Record {number}: "):
            yield make(record, f"{file.id}#{number}")


def _records(file: OpenFile, reading: Reading, first: str) -> Iterator[tuple[int, Record]]:
    """Give each record with the line at which it begins; one that never ends must not fill the memory."""
    record: dict[str, list[list[str]]] = {}
    begun, tag, room = 0, "", MAX_LINE
    for number, raw in raw_lines(file.stream):
        try:
            line = chomp(decode_line(raw))
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            continue
        found = _TAG.fullmatch(line)
        if found is not None and found[1] == first:
            if record:
                yield begun, _joined(record)
            record, begun, room = {}, number, MAX_LINE
        room -= len(raw)
        if room < 0:
            if record:
                reading.bad(f"No {first} within {MAX_LINE >> 20} MiB: the record has no end.", file.name, begun)
            record, tag = {}, ""
        elif found is not None:
            tag = found[1]
            record.setdefault(tag, []).append([found[2].strip()])
        elif line.strip() and tag:
            record[tag][-1].append(line.strip())
    if record:
        yield begun, _joined(record)


def _joined(record: Mapping[str, Sequence[Sequence[str]]]) -> Record:
    return {tag: [" ".join(lines) for lines in values] for tag, values in record.items()}


def _one(record: Mapping[str, Sequence[str]], *tags: str) -> str:
    return next((value for tag in tags for value in record.get(tag, ()) if value), "")


def _all(record: Mapping[str, Sequence[str]], *tags: str) -> list[str]:
    return next((found for tag in tags if (found := [value for value in record.get(tag, ()) if value])), [])


def _medline(record: Record, _: str) -> Passage:
    pmid = _one(record, "PMID")
    if not re.fullmatch(r"[0-9]+", pmid):
        raise Malformed(f"no PMID (found {pmid[:40]!r}).")
    types = _all(record, "PT")
    dois = [value.split()[0] for value in [*_all(record, "LID"), *_all(record, "AID")] if value.endswith("[doi]")]
    metadata = {
        "pmid": pmid,
        "authors": _all(record, "FAU", "AU"),
        "journal": _one(record, "JT", "TA"),
        "year": as_year(_one(record, "DP", "DEP")),
        "doi": dois[0] if dois else "",
        "pmcid": _one(record, "PMC"),
        "publication_types": types,
        "mesh": _all(record, "MH"),
        "keywords": _all(record, "OT"),
        "language": _one(record, "LA"),
        "vernacular_title": _one(record, "TT"),
        "revised": as_year(_one(record, "LR")),
        "retracted": "Retracted Publication" in types or "RIN" in record,
        "expression_of_concern": "ECI" in record,
    }
    return article_passage(pmid, _one(record, "AB", "OAB"), _one(record, "TI", "TT"), metadata)


def _ris(record: Record, fallback: str) -> Passage:
    addresses = _all(record, "UR", "L2")
    accession = _one(record, "AN", "ID", "U1")
    pmid = next((found for one in addresses if (found := pmid_in_address(one))), None)
    if pmid is None and accession.isdigit() and "pubmed" in _one(record, "DB", "DP").casefold():
        pmid = accession
    doi = _one(record, "DO", "M3") if _one(record, "DO", "M3").startswith("10.") else ""
    metadata = {
        "pmid": pmid or "",
        "authors": _all(record, "AU", "A1"),
        "journal": _one(record, "JF", "JO", "T2", "JA"),
        "year": as_year(_one(record, "PY", "Y1", "DA")),
        "doi": doi,
        "keywords": _all(record, "KW"),
        "url": addresses[0] if addresses else "",
    }
    id_ = pmid or accession or doi or fallback
    return article_passage(id_, _one(record, "AB", "N2"), _one(record, "TI", "T1", "ST"), metadata)
