"""Compare all systems, peers too, on all mixes and models, write one JSON, and print the tables of the documentation.

    python -m benchmarks.speed.speed --data "$BIORERANK_DATA" --out benchmarks/results/speed.json

``--table benchmarks/results/speed.json`` prints the tables of an earlier run. What is measured is written after each
part, so a run that is interrupted loses one part; ``--part`` measures some parts again, and keeps the others. Each part
is a process of its own: memory that one leaves behind is no burden to the next.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import markdown_table, parser_of, read_result, write_result
from benchmarks.speed.parts import measure_part
from benchmarks.speed.systems import ALL_SYSTEMS, PACKAGES
from biorerank_plugins._common.versions import versions
from biorerank_plugins.speed.run import Options

RESULT = "speed.json"
KEYS_OF_EACH = ("machine", "model", "baseline", "roofline", "comparisons", "not_possible")


@dataclass(frozen=True)
class Part:
    """One run of the command."""

    shape: str | None
    mix: str
    candidates: int
    rounds: int


# Long pairs of a large model take half a second each on two cores: fewer of them, in fewer rounds.
PARTS = {
    "minilm-bioasq-100": Part(None, "bioasq", 100, 7),
    "minilm-bioasq-1000": Part(None, "bioasq", 1000, 5),
    "minilm-150-100": Part(None, "150", 100, 5),
    "minilm-150-1000": Part(None, "150", 1000, 3),
    "minilm-512-100": Part(None, "512", 100, 3),
    "bert-base-bioasq-100": Part("bert-base", "bioasq", 100, 5),
    "bert-base-bioasq-1000": Part("bert-base", "bioasq", 1000, 3),
    "bert-base-150-100": Part("bert-base", "150", 100, 5),
    "bert-base-512-20": Part("bert-base", "512", 20, 3),
}
SHOWN = (
    ("predict", "`CrossEncoder.predict`, fp32"),
    ("llama-index", "LlamaIndex"),
    ("haystack", "Haystack"),
    ("rerankers", "rerankers"),
    ("flashrank", "FlashRank, fp32"),
    ("flashrank-int8", "FlashRank, int8"),
    ("st-onnx", "sentence-transformers on ONNX Runtime, fp32"),
    ("st-openvino-float32", "sentence-transformers on OpenVINO, fp32"),
    ("st-openvino-bfloat16", "sentence-transformers on OpenVINO, bf16"),
    ("st-best", "sentence-transformers, best setting"),
    ("ours-torch-float32", "**ours**, torch fp32"),
    ("ours-torch-bfloat16", "**ours**, torch bf16"),
    ("ours-torch-float16", "**ours**, torch fp16"),
    ("ours-packed-float32", "**ours**, packed fp32"),
    ("ours-packed-bfloat16", "**ours**, packed bf16"),
    ("ours-packed-float16", "**ours**, packed fp16"),
    ("ours-packed-int8", "**ours**, packed int8"),
    ("ours-default", "**ours**, default"),
)


def measure(part: Part, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one part in this process."""
    options = Options(
        mixes=(part.mix,),
        candidates=(part.candidates,),
        systems=tuple(args.system),
        rounds=args.rounds or part.rounds,
        threads=args.threads,
        device=args.device,
        data=args.data,
    )
    note = lambda said: print(said, file=sys.stderr)  # noqa: E731
    found = measure_part(options, shape=part.shape, known=ALL_SYSTEMS, note=note)
    found["machine"]["versions"] |= versions(PACKAGES)
    return found


def in_process_of_its_own(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "part.json"
        given = [*sys.argv[1:], "--only", name, "--out", str(target)]
        subprocess.run([sys.executable, "-m", "benchmarks.speed.speed", *given], check=True, stdout=sys.stderr)
        return read_result(target)


def tables(parts: dict[str, Any]) -> str:
    """Two tables: how many times faster than the baseline, and the pairs a second."""
    names = [name for name in PARTS if name in parts]
    comparisons = {name: parts[name]["comparisons"][0] for name in names}
    headings = ["", *(heading(parts[name], comparisons[name]) for name in names)]
    ratios, rates = [], []
    for system, title in SHOWN:
        found = [comparisons[name]["systems"].get(system) for name in names]
        if any(found):
            ratios.append([title, *("–" if one is None else f"{one['ratio']:.2f}x" for one in found)])
            rates.append([title, *("–" if one is None else f"{one['pairs_per_second']:,.0f}" for one in found)])
    rounds = sorted({comparison["rounds"] for comparison in comparisons.values()})
    many = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    first = parts[names[0]]["machine"]
    said = f"{first['cpu']}, threads: {first['threads']}, device: {first['device']}; medians, rounds: {many}"
    return (
        f"Times faster than fp32 `CrossEncoder.predict` ({said})\n\n{markdown_table(headings, ratios)}\n\n"
        f"Pairs a second\n\n{markdown_table(headings, rates)}"
    )


def heading(part: dict[str, Any], comparison: dict[str, Any]) -> str:
    name = part["model"]["name"] if part["model"]["random_weights"] else "MiniLM-L6"
    tokens = comparison["tokens_a_pair"]["mean"]
    return f"{name}, {comparison['mix']} ({tokens:.0f} tokens), {comparison['candidates']}"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, help="folder with bioasq/; the demo collection if not given")
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), help="may be given repeatedly; all if not given"
    )
    parser.add_argument(
        "--system", action="append", default=[], help="a name or its beginning (flashrank, ours); all if not given"
    )
    parser.add_argument("--rounds", type=int, help="instead of each part's own number")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, help="JSON to write, or to complete")
    parser.add_argument("--only", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the tables of this file, and measure nothing")
    args = parser.parse_args()
    if args.table is not None:
        print(tables(read_result(args.table)))
        return
    if args.only is not None:
        write_result(args.out, measure(PARTS[args.only], args), KEYS_OF_EACH)
        return
    parts = read_result(args.out)
    for name in args.part or PARTS:
        print(f"== {name}", file=sys.stderr)
        parts[name] = in_process_of_its_own(name)
        write_result(args.out, parts, KEYS_OF_EACH, each=True)
    print(tables(parts))


if __name__ == "__main__":
    main()
