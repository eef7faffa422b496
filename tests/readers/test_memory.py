"""Readers hold one record at a time, however many a file has."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.heap import c_heap

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport, read_passages

TEXT = "Idarucizumab reverses dabigatran in adults who bleed. " * 20
FEW, MANY = 500, 2_000
TOLERANCE = 200_000  # of the 1.6 MB that MANY have more text than FEW

_ARTICLE = (
    '<article><front><article-meta><article-id pub-id-type="pmid">{n}</article-id></article-meta></front>'
    f"<body><sec><title>Methods</title><p>{TEXT}</p></sec></body></article>\n"
)
_OAI_RECORD = f"<record><header><setSpec>{TEXT}</setSpec></header><metadata>{_ARTICLE}</metadata></record>"

FORMATS = {  # what stands before the records, a record, between two, behind them
    "medline": ("", f"PMID- {{n}}\nTI  - Reversal\nAB  - {TEXT}\nFAU - Meyer, Anna\n", "\n", ""),
    "ris": ("", f"TY  - JOUR\nTI  - Reversal\nAB  - {TEXT}\nDO  - 10.1000/{{n}}\nER  - \n", "\n", ""),
    "csv": ("id,text\n", f'{{n}},"{TEXT}"\n', "", ""),
    "tsv": ("id\ttext\n", f"{{n}}\t{TEXT}\n", "", ""),
    "europepmc": ('{{"resultList": {{"result": [', f'{{{{"id": "{{n}}", "abstractText": "{TEXT}"}}}}', ",\n", "]}}}}"),
    "bioc": (
        '{{"documents": [',
        f'{{{{"id": "{{n}}", "infons": {{{{}}}}, "passages": [{{{{"infons": {{{{}}}}, "text": "{TEXT}"}}}}]}}}}',
        ",\n",
        "]}}",
    ),
    "bioc in xml": (
        "<collection>",
        f"<document><id>{{n}}</id><passage><text>{TEXT}</text></passage></document>\n",
        "",
        "</collection>",
    ),
    "jats": ("<pmc-articleset>", _ARTICLE, "", "</pmc-articleset>"),
    "jats in oai": ("<OAI-PMH><ListRecords>", _OAI_RECORD, "", "</ListRecords></OAI-PMH>"),
}


def _file(path: Path, kind: str, count: int) -> Path:
    before, record, between, behind = FORMATS[kind]
    with path.open("w") as out:
        out.write(before.format())
        for number in range(1, count + 1):
            out.write((between if number > 1 else "") + record.format(n=number))
        out.write(behind.format())
    return path


def _most(passages: Iterable[object], expected: int) -> tuple[int, int]:
    """Return the most memory while passages are read: Python's, and the C library's."""
    gc.collect()
    before = most = c_heap()
    tracemalloc.start()
    try:
        for count, _ in enumerate(passages, start=1):
            if count % 50 == 0:
                most = max(most, c_heap())
        assert count == expected
        return tracemalloc.get_traced_memory()[1], most - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_memory_does_not_grow_with_the_number_of_records(kind: str, tmp_path: Path) -> None:
    format_ = kind.partition(" ")[0]
    used = []
    # The first fills what is filled once: modules, patterns. The last is measured twice: threads that earlier tests
    # left are in this process too, and what a reader keeps it keeps each time.
    for count in (10, FEW, MANY, MANY):
        path = _file(tmp_path / f"{count}.x", kind, count)
        used.append(_most(read_passages(path, format=format_, passages="whole"), count))
    for few, *many in zip(*used[1:], strict=True):
        assert min(many) < few + TOLERANCE, (kind, used)


@pytest.mark.parametrize(("format_", "first"), [("medline", "PMID- 7"), ("ris", "TY  - JOUR\nAN  - 7")])
def test_a_record_without_an_end_does_not_fill_the_memory(format_: str, first: str, tmp_path: Path) -> None:
    path = tmp_path / "export.txt"
    with path.open("w") as out:
        out.write(f"{first}\nTI  - Endless\n")
        out.writelines(itertools.repeat("AU  - " + "x" * 1_000_000 + "\n      goes on\n", 60))
        out.write(f"{first}\nTI  - The next one\n")
    with pytest.raises(ReaderError, match=r"export\.txt:1: No (PMID|TY) within 16 MiB: the record has no end\."):
        list(read_passages(path, format=format_))
    report = ReadReport()
    python, _ = _most(read_passages(path, format=format_, bad_lines="skip", report=report), 1)
    assert python < 40 << 20  # the file has 60 MB
    assert report.n_skipped == 1


def test_a_long_record_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "export.nbib"
    lines = [f"      word{number}" for number in range(30_000)]
    path.write_text("\n".join(["PMID- 7", "TI  - Long", "AB  - word", *lines, "LA  - eng"]))
    passage = next(read_passages(path))
    assert passage.text == " ".join(["word", *(line.strip() for line in lines)])
    assert passage.metadata["language"] == "eng"
