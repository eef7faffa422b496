"""Bring your own corpus, at size: PubMed XML and PDFs to an index that is searched, filtered and reranked.

    python -m benchmarks.quality.own_corpus passages.jsonl --questions questions.jsonl \\
        --out benchmarks/results/own_corpus.json

Writes the passages out as PubMed XML (structured abstracts, older versions, an update file with new versions and
deletions) and some as PDFs of two columns, does the walk of examples/own_corpus with them, and checks what came out:
every record's text, every version and deletion, which sentences of the PDFs come back word for word, and that a
search with a filter gives only what the filter allows. Exits with 1 if a check fails.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.common import machine, parser_of, write_result

RESULT = "own_corpus.json"
KEYS = ("machine", "passages", "records", "pdfs", "search", "seconds", "peak_memory_mb")

HERE = Path(__file__).resolve().parents[2] / "examples" / "own_corpus"
sys.path.insert(0, str(HERE))


class Steps:
    """Times of steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, script: str, *arguments: object) -> None:
        """Run one of the example's scripts, as a person does."""
        start = time.perf_counter()
        subprocess.run([sys.executable, str(HERE / f"{script}.py"), *map(str, arguments)], check=True)
        self.seconds[name] = round(time.perf_counter() - start, 1)


def expected_text(text: str) -> str:
    """Return the passage that a record made of this text must become."""
    from make_pubmed_xml import sections

    return "\n".join(f"{label}: {part}" if label else part for label, part in sections(text))


def check_records(index: Any, given: list[Any]) -> dict[str, int]:
    """Compare every record in the index with the passage that it was made of, after the update."""
    from make_pubmed_xml import CORRECTED, FIRST_PMID

    counts = {"records": 0, "right": 0, "new_versions": 0, "deleted": 0}
    for pmid, passage in enumerate(given, start=FIRST_PMID):
        found = index.get(str(pmid))
        wanted = expected_text(passage.text)
        counts["records"] += 1
        if pmid % 200 == 99:
            counts["deleted"] += found is None
            counts["right"] += found is None
            continue
        if pmid % 100 == 1:
            wanted = f"{wanted} {CORRECTED}"
            counts["new_versions"] += found is not None and found.metadata["version"] == 9
        counts["right"] += found is not None and found.text == wanted
    return counts


def check_pdfs(papers: Path) -> dict[str, Any]:
    """Count the sentences of the PDFs that are read word for word, but for white space."""
    from biorerank_plugins.readers import read_passages

    total = exact = titles = passages = leftovers = 0
    lines = (papers / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        truth = json.loads(line)
        found = list(read_passages(papers / truth["file"]))
        text = " ".join(" ".join(passage.text.split()) for passage in found)
        passages += len(found)
        total += len(truth["sentences"])
        exact += sum(" ".join(sentence.split()) in text for sentence in truth["sentences"])
        titles += found[0].title == truth["title"]
        leftovers += text.count("J Made Ex") + text.count("Author et al.")
    return {
        "files": len(lines),
        "passages": passages,
        "sentences": total,
        "word_for_word": exact,
        "share": round(exact / total, 4),
        "titles": titles,
        "running_heads_and_references_left": leftovers,
    }


def check_search(index: Any, questions: list[str]) -> dict[str, Any]:
    """Search with a filter and rerank; every passage must be of the years asked for."""
    from biorerank_plugins import BioReranker, TwoStageSearch

    wrong, milliseconds = 0, []
    with BioReranker() as reranker:
        search = TwoStageSearch(index, reranker)
        search.search(questions[0], candidates=50, top_k=5)
        for question in questions:
            start = time.perf_counter()
            ranking = search.search(question, candidates=50, top_k=5, filters={"year": {">=": 2015}}, evidence=1)
            milliseconds.append(1e3 * (time.perf_counter() - start))
            wrong += sum(one.passage.metadata.get("year", 0) < 2015 for one in ranking)
            wrong += len(ranking) == 0
        from_pdf = search.search(questions[0], candidates=50, filters={"source": {"!=": None}})
        wrong += not from_pdf.passages or any(".pdf" not in one.passage.id for one in from_pdf)
    return {"questions": len(questions), "wrong": wrong, "median_ms": round(sorted(milliseconds)[len(questions) // 2])}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("passages", help="a file that biorerank reads")
    parser.add_argument("--questions", required=True)
    parser.add_argument("--limit", type=int, help="so many passages")
    parser.add_argument("--pdfs", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from biorerank_plugins import PassageIndex
    from biorerank_plugins.readers import read_passages, read_queries

    given = [one for one in islice(read_passages(options.passages), options.limit) if one.text.split()]
    steps = Steps()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        limit = [] if options.limit is None else ["--limit", options.limit]
        steps.run("write_xml", "make_pubmed_xml", options.passages, "--out", folder / "pubmed", *limit)
        steps.run("write_pdfs", "make_pdfs", options.passages, "--out", folder / "papers", "--count", options.pdfs)
        truth = folder / "papers" / "truth.jsonl"
        pdfs = check_pdfs(folder / "papers")
        truth.rename(folder / "truth.jsonl")  # it is no part of the collection
        index = folder / "index"
        steps.run(
            "build", "build_index", "--pubmed", folder / "pubmed" / "baseline", "--pdfs", folder / "papers",
            "--out", index,
        )  # fmt: skip
        steps.run("update", "build_index", "--update", folder / "pubmed" / "update0001.xml.gz", "--out", index)
        with PassageIndex.load(index) as opened:
            records = check_records(opened, given)
            questions = [query.text for query in read_queries(options.questions)[:50]]
            found = check_search(opened, questions)
            passages = len(opened)
    result = {
        "machine": machine(),
        "passages": passages,
        "records": records,
        "pdfs": pdfs,
        "search": found,
        "seconds": steps.seconds,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=2))
    write_result(options.out, result, KEYS)
    failed = records["right"] != records["records"] or found["wrong"] or pdfs["running_heads_and_references_left"]
    sys.exit(1 if failed or pdfs["share"] < 0.95 else 0)


if __name__ == "__main__":
    main()
