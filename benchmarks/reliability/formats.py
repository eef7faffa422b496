"""One collection in many formats: do all readers give the same passages, from how many bytes, in how many seconds?

    python -m benchmarks.reliability.formats --passages $BIORERANK_DATA/bioasq/corpus.jsonl.gz \
        --out benchmarks/results/formats.json

The passages are numbered from 1, since MEDLINE's ids are numbers, and written by the libraries that others use (csv,
pyarrow, openpyxl). Lines of MEDLINE are wrapped, so that runs of blanks become one; what differs by blanks alone is
counted apart. Nothing is embedded; a time is the median of three readings from the disk's cache.
"""

from __future__ import annotations

import csv
import gzip
import json
import statistics
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, write_result
from biorerank_plugins._common.versions import versions
from biorerank_plugins.readers import read_passages
from biorerank_plugins.speed.machine import describe_machine

RESULT = "formats.json"
KEYS = ("passages", "characters", "rounds", "machine", "versions", "formats")
ROUNDS = 3
Row = tuple[str, str]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--passages", type=Path, required=True, help="what the passages are taken from")
    parser.add_argument("--limit", type=int, help="take the first so many")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [(str(n), one.text) for n, one in enumerate(read_passages(options.passages), start=1)][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        formats = {name: measured(name, Path(folder), rows) for name in WRITERS}
    result = {
        "passages": len(rows),
        "characters": sum(len(text) for _, text in rows),
        "rounds": ROUNDS,
        "machine": describe_machine("cpu", 1),
        "versions": versions(("lxml", "openpyxl", "pyarrow")),
        "formats": formats,
    }
    write_result(options.out, result, KEYS)
    print(json.dumps(result, indent=1))


def measured(name: str, folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Write the passages in one format, read them, and compare."""
    path = folder / f"corpus.{name}"
    WRITERS[name](path, rows)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = [(one.id, one.text) for one in read_passages(path)]
        seconds.append(time.perf_counter() - start)
    pairs = list(zip_longest(rows, found, fillvalue=("", "")))
    texts = [(text, read) for (_, text), (_, read) in pairs if text != read]
    return {
        "bytes": path.stat().st_size,
        "seconds": round(statistics.median(seconds), 3),
        "read": len(found),
        "other_ids": sum(id_ != read for (id_, _), (read, _) in pairs),
        "other_texts": sum(text.split() != read.split() for text, read in texts),
        "other_blanks": sum(text.split() == read.split() for text, read in texts),
    }


def _csv(path: Path, rows: Sequence[Row], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *rows])


def _tsv(path: Path, rows: Sequence[Row]) -> None:
    _csv(path, rows, "\t")


def _jsonl(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(_lines(rows)), encoding="utf-8")


def _gzipped(path: Path, rows: Sequence[Row]) -> None:
    path.write_bytes(gzip.compress("".join(_lines(rows)).encode(), compresslevel=6))


def _zipped(path: Path, rows: Sequence[Row]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corpus.jsonl", "".join(_lines(rows)))


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    return (json.dumps({"id": id_, "text": text}, ensure_ascii=False) + "\n" for id_, text in rows)


def _list(path: Path, rows: Sequence[Row]) -> None:
    path.write_text(json.dumps([{"id": id_, "text": text} for id_, text in rows], indent=1), encoding="utf-8")


def _parquet(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [id_ for id_, _ in rows], "text": [text for _, text in rows]}), path)


def _xlsx(path: Path, rows: Sequence[Row]) -> None:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet("Passages")
    for row in [("id", "text"), *rows]:
        sheet.append(row)
    book.save(path)


def _medline(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for id_, text in rows:
            wrapped = textwrap.wrap(text, 80, break_long_words=False, break_on_hyphens=False)
            file.write(f"PMID- {id_}\nOWN - NLM\nAB  - " + "\n      ".join(wrapped) + "\nPT  - Journal Article\n\n")


WRITERS: dict[str, Callable[[Path, Sequence[Row]], None]] = {
    "jsonl": _jsonl,
    "jsonl.gz": _gzipped,
    "zip": _zipped,
    "json": _list,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "xlsx": _xlsx,
    "nbib": _medline,
}


if __name__ == "__main__":
    main()
