"""From PubMed XML files and a folder of PDFs to an index that can be searched, filtered and reranked.

    python examples/own_corpus/build_index.py --pubmed pubmed/baseline --pdfs papers --out my-index
    python examples/own_corpus/build_index.py --update pubmed/update0001.xml.gz --out my-index

The second command brings PubMed's changes in: new versions take the place of old ones, deleted articles go.
Needs: pip install 'biorerank-plugins[pdf]'
"""

import argparse
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.readers import ReadReport, read_passages


def passages_of(folders: list[Path], report: ReadReport) -> Iterator[Passage]:
    """Read files of any kind; what cannot be read is noted in the report, and the rest is read."""
    return chain.from_iterable(read_passages(folder, bad_lines="skip", report=report) for folder in folders)


def build(folders: list[Path], out: Path) -> ReadReport:
    """Index everything, and save it."""
    report = ReadReport()
    # The highest version of an article is kept in each file; an article that comes in two files is kept once.
    with PassageIndex.build(passages_of(folders, report), on_duplicate="skip", show_progress=True) as index:
        index.save(out)
        print(f"{out}: {len(index):,} passages")
    for skipped in report.skipped[:10]:
        print(f"Left out: {skipped.path}: {skipped.reason}")
    return report


def update(files: list[Path], out: Path) -> tuple[int, int, int]:
    """Bring new versions and deletions into an index; return how many were replaced, added and removed."""
    report = ReadReport()
    with PassageIndex.load(out) as index:
        changed = {passage.id: passage for passage in passages_of(files, report)}
        known = [id_ for id_ in changed if id_ in index]
        gone = [id_ for id_ in dict.fromkeys(report.deleted) if id_ in index]
        index.remove([*known, *gone])
        index.add(changed.values())
        index.save(out)
    print(f"{out}: {len(known)} replaced, {len(changed) - len(known)} added, {len(gone)} removed")
    return len(known), len(changed) - len(known), len(gone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pubmed", type=Path, nargs="+", default=[], help="files or folders of PubMed XML")
    parser.add_argument("--pdfs", type=Path, nargs="+", default=[], help="PDF files or folders")
    parser.add_argument("--update", type=Path, nargs="+", help="update files, for an index that is there")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    start = time.perf_counter()
    if options.update:
        update(options.update, options.out)
    elif options.pubmed or options.pdfs:
        build([*options.pubmed, *options.pdfs], options.out)
    else:
        parser.error("Nothing to read: give --pubmed or --pdfs, or --update.")
    print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
