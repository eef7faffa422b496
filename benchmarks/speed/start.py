"""Measure what a user waits for before the first answer: a cold process to its first ranking, and an index to be built.

    python -m benchmarks.speed.start --data "$BIORERANK_DATA" --out benchmarks/results/start.json

Processes are started in turns, each of them anew; their files are in the system's cache. Passages a second are those of
the bi-encoder, ours beside sentence-transformers' with its defaults and, where the CPU multiplies it, in bf16, on the
first passages of the BioASQ collection; then the whole collection is indexed once, BM25 included. ``start-avx2.json``
was written with ``--passages 600 --index-dtype int8``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import DEMO, machine, parser_of, read_rows, seconds_in_turns, spread, write_result

RESULT = "start.json"
KEYS = ("machine", "rounds", "cold process", "passages a second", "index")

QUERY = "Which drug reverses dabigatran?"
_TEXTS = "texts = [f'Idarucizumab reverses dabigatran within {n} minutes.' for n in range(10)]"
_PAIRS = f"[({QUERY!r}, text) for text in texts]"
PROGRAMS = {
    "import torch": "import torch",
    "ours: rank 10 passages": (
        f"{_TEXTS}; from biorerank_plugins import BioReranker; BioReranker(device='cpu').rank({QUERY!r}, texts)"
    ),
    "sentence-transformers: predict 10 pairs": (
        f"{_TEXTS}; from biorerank_plugins import models; from sentence_transformers import CrossEncoder; "
        f"CrossEncoder(str(models.path(models.DEFAULT_RERANKER)), device='cpu').predict({_PAIRS})"
    ),
    "ours: open an index, search, rank": (
        "import sys; from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch; "
        f"TwoStageSearch(PassageIndex.load(sys.argv[1]), BioReranker(device='cpu')).search({QUERY!r}, candidates=10)"
    ),
}
"""What a cold process does, as Python; the argument is an index of the demo collection."""


def cold(index: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each program from its start to its end, interpreter included."""

    def call(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code, str(index)], check=True, capture_output=True)

    times = seconds_in_turns({name: call(code) for name, code in PROGRAMS.items()}, rounds)
    return {name: spread(seconds) for name, seconds in times.items()}


def embedding(texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Passages a second of bi-encoders with the same weights."""
    from sentence_transformers import SentenceTransformer

    from biorerank_plugins import BiEncoder, Passage, models
    from biorerank_plugins.runtime.devices import cpu_has_bf16

    folder = str(models.path(models.DEFAULT_ENCODER))
    passages = [Passage(str(n), text) for n, text in enumerate(texts)]
    ours, exact, bytes_ = (BiEncoder(device="cpu", dtype=dtype) for dtype in ("auto", "float32", "int8"))
    theirs = SentenceTransformer(folder, device="cpu")
    calls: dict[str, Callable[[], object]] = {
        f"ours, {str(ours._dtype).removeprefix('torch.')} (the default here)": lambda: ours.encode_passages(passages),
        "ours, float32": lambda: exact.encode_passages(passages),
        "ours, int8": lambda: bytes_.encode_passages(passages),
        "sentence-transformers, its defaults": lambda: theirs.encode(list(texts)),
    }
    if cpu_has_bf16():
        half = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "bfloat16"})
        calls["sentence-transformers, bfloat16"] = lambda: half.encode(list(texts))
    for first in calls.values():
        first()
    times = seconds_in_turns(calls, rounds)
    return {name: spread([len(texts) / one for one in seconds], 0) for name, seconds in times.items()}


def indexed(rows: Sequence[dict[str, Any]], dtype: str) -> dict[str, Any]:
    """Seconds until a collection is indexed."""
    from biorerank_plugins import BiEncoder, Passage, PassageIndex

    passages = [Passage(row["id"], row["text"]) for row in rows]
    started = time.perf_counter()
    PassageIndex.build(passages, encoder=BiEncoder(device="cpu", dtype=dtype)).close()
    return {"passages": len(passages), "dtype": dtype, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    from biorerank_plugins import PassageIndex
    from biorerank_plugins.readers import read_passages

    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passages", type=int, default=2000, help="passages of a round of embedding")
    parser.add_argument("--index-dtype", default="auto", help="precision of the last part")
    parser.add_argument("--no-index", action="store_true", help="leave out the last part, which takes minutes")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        with PassageIndex.build(read_passages(DEMO / "corpus.jsonl")) as built:
            built.save(Path(scratch, "index"))
        result: dict[str, Any] = {
            "machine": machine(),
            "rounds": args.rounds,
            "cold process": cold(Path(scratch, "index"), args.rounds),
        }
    rows = read_rows(args.data / "bioasq/corpus.jsonl.gz")
    result["passages a second"] = embedding([row["text"] for row in rows[: args.passages]], args.rounds)
    result["index"] = None if args.no_index else indexed(rows, args.index_dtype)
    write_result(args.out, result, KEYS)
    print(result)


if __name__ == "__main__":
    main()
