"""Write passages out as PubMed XML, in the way PubMed is published: baseline files and an update file.

    python examples/own_corpus/make_pubmed_xml.py passages.jsonl --out pubmed

For trying things at size without PubMed itself: texts are those of the passages; PMIDs, years and journals are made up.
Abstracts of three sentences and more are structured. Of every 50th article the file also holds an older version. The
update file brings new versions of some articles, and deletes some.
"""

import argparse
import gzip
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lxml import etree
from lxml.builder import E

from biorerank_plugins import Passage
from biorerank_plugins.readers import read_passages
from biorerank_plugins.text.sentences import split_sentences

FIRST_PMID = 90_000_001
JOURNALS = ("Journal of Made Examples", "Annals of Trial Data", "Archives of Invented Medicine")
CORRECTED = "This abstract was corrected."


def sections(text: str) -> list[tuple[str, str]]:
    """Return an abstract as (label, text); short ones have one part without a label."""
    sentences = [text[start:end].strip() for start, end in split_sentences(text)]
    if len(sentences) < 3:
        return [("", " ".join(text.split()))]
    parts = {"BACKGROUND": sentences[:1], "METHODS AND RESULTS": sentences[1:-1], "CONCLUSION": sentences[-1:]}
    return [(label, " ".join(" ".join(own).split())) for label, own in parts.items()]


def year_of(pmid: int) -> int:
    """Return a year between 1990 and 2024, the same in every run."""
    return 1990 + hashlib.blake2b(str(pmid).encode(), digest_size=2).digest()[0] % 35


def article(pmid: int, title: str, parts: list[tuple[str, str]], version: int) -> etree._Element:
    """Return one record."""
    texts = [E.AbstractText(text, **({"Label": label} if label else {})) for label, text in parts]
    journal = E.Journal(
        E.JournalIssue(E.PubDate(E.Year(str(year_of(pmid)))), CitedMedium="Internet"),
        E.Title(JOURNALS[pmid % len(JOURNALS)]),
    )
    kinds = E.PublicationTypeList(E.PublicationType("Journal Article", UI="D016428"))
    return E.PubmedArticle(
        E.MedlineCitation(
            E.PMID(str(pmid), Version=str(version)),
            E.Article(journal, E.ArticleTitle(title), E.Abstract(*texts), kinds, PubModel="Print"),
            Status="MEDLINE",
            Owner="NLM",
        ),
        E.PubmedData(E.PublicationStatus("ppublish"), E.ArticleIdList(E.ArticleId(str(pmid), IdType="pubmed"))),
    )


def title_of(text: str) -> str:
    """Make a title of the first words."""
    return " ".join(text.split()[:9]).rstrip(".,;:") + "."


def records(numbered: list[tuple[int, Passage]]) -> Iterator[etree._Element]:
    """Give the records of a file, now and then an older version before the newer one."""
    for pmid, passage in numbered:
        if pmid % 50 == 0:
            yield article(pmid, "Withdrawn wording.", [("", "An older version of this abstract.")], version=1)
        yield article(pmid, title_of(passage.text), sections(passage.text), version=2 if pmid % 50 == 0 else 1)


def write(path: Path, elements: Iterator[etree._Element]) -> int:
    """Write a gzipped file, one record at a time; return how many."""
    count = 0
    with gzip.open(path, "wb", compresslevel=3) as stream, etree.xmlfile(stream, encoding="utf-8") as file:
        file.write_declaration()
        file.write_doctype(
            '<!DOCTYPE PubmedArticleSet SYSTEM "http://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">'
        )
        with file.element("PubmedArticleSet"):
            for element in elements:
                file.write(element)
                count += 1
    return count


def updates(numbered: list[tuple[int, Passage]]) -> Iterator[etree._Element]:
    """Give new versions of every 100th article, and the list of those that are deleted: every 200th."""
    for pmid, passage in numbered:
        if pmid % 100 == 1:
            parts = sections(passage.text)
            parts[-1] = (parts[-1][0], f"{parts[-1][1]} {CORRECTED}")
            yield article(pmid, title_of(passage.text), parts, version=9)
    yield E.DeleteCitation(*(E.PMID(str(pmid), Version="1") for pmid, _ in numbered if pmid % 200 == 99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("passages", help="a file that biorerank reads")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="so many passages at most")
    parser.add_argument("--per-file", type=int, default=30_000)
    options = parser.parse_args()
    (options.out / "baseline").mkdir(parents=True, exist_ok=True)
    given = [passage for passage in islice(read_passages(options.passages), options.limit) if passage.text.split()]
    numbered = list(enumerate(given, start=FIRST_PMID))
    for number, start in enumerate(range(0, len(numbered), options.per_file), start=1):
        path = options.out / "baseline" / f"made{number:04d}.xml.gz"
        print(f"{path}: {write(path, records(numbered[start : start + options.per_file])):,} records")
    path = options.out / "update0001.xml.gz"
    print(f"{path}: {write(path, updates(numbered)):,} elements")


if __name__ == "__main__":
    main()
