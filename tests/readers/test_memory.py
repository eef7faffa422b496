"""Readers hold one record at a time, however many a file has."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import pytest
from support.heap import most_used, most_used_by_reading

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


@pytest.fixture(scope="module")
def apart() -> Iterator[Executor]:
    """A process in which nothing else allocates: threads that earlier tests left are in this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("kind", FORMATS)
def test_the_memory_does_not_grow_with_the_number_of_records(kind: str, tmp_path: Path, apart: Executor) -> None:
    format_ = kind.partition(" ")[0]
    used = []
    for count in (10, FEW, MANY):  # the first fills what is filled once: modules, patterns
        path = _file(tmp_path / f"{count}.x", kind, count)
        used.append(apart.submit(most_used_by_reading, path, format_, count).result())
    for few, many in zip(used[1], used[2], strict=True):
        assert many < few + TOLERANCE, (kind, used)


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
    python, _ = most_used(read_passages(path, format=format_, bad_lines="skip", report=report), 1)
    assert python < 40 << 20  # the file has 60 MB
    assert report.n_skipped == 1


def test_a_long_record_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "export.nbib"
    lines = [f"      word{number}" for number in range(30_000)]
    path.write_text("\n".join(["PMID- 7", "TI  - Long", "AB  - word", *lines, "LA  - eng"]))
    passage = next(read_passages(path))
    assert passage.text == " ".join(["word", *(line.strip() for line in lines)])
    assert passage.metadata["language"] == "eng"
