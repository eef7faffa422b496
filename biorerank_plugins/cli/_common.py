"""What every command shares: options, and by its name what reports errors and loads what is heavy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from biorerank_plugins.cli.loading import (
    check_abstain,
    check_index,
    check_order,
    load_encoder,
    load_reranker,
    open_index,
    quiet_libraries,
)
from biorerank_plugins.cli.one_line_errors import command, describe, fail, usage_error

__all__ = [
    "check_abstain",
    "check_index",
    "check_order",
    "check_question",
    "command",
    "describe",
    "fail",
    "load_encoder",
    "load_reranker",
    "open_index",
    "quiet_libraries",
    "usage_error",
]


def path(text: str) -> Path:
    """Read a path to a file or folder; ``-`` is none."""
    if text == "-":
        raise typer.BadParameter(
            "- (stdin or stdout) is not taken here; give a file or a folder, ./- if it is named so."
        )
    return path_or_stdin(text)


def path_or_stdin(text: str) -> Path:
    """Read a path, or ``-``; an empty one, as of a shell variable that is not set, would be the current folder."""
    if not text.strip():
        raise typer.BadParameter("the path is empty; give a file or a folder.")
    return Path(text)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


IndexOption = Annotated[
    Path | None, typer.Option("--index", parser=path, help="Passages: a folder that biorerank index wrote.")
]
Corpus = Annotated[
    Path | None, typer.Option("--corpus", parser=path_or_stdin, help="Passages: a file, indexed in memory; or -.")
]
Queries = Annotated[Path | None, typer.Option("--queries", parser=path, help="A file of questions.")]
Qrels = Annotated[Path | None, typer.Option("--qrels", parser=path, help="A file of judgements.")]
Beir = Annotated[Path | None, typer.Option("--beir", parser=path, help="A folder with all three, in BEIR's layout.")]
Split = Annotated[str, typer.Option("--split", help="Which judgements of --beir.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress bars.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Reranker: embedded name, folder, or hub name."),
]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", metavar="MODEL", help="Bi-encoder: embedded name, folder, or hub name."),
]
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps, …")]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="auto, float32, bfloat16, float16; for a reranker also int8.")
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Go on without parts of a sharded index that are lost; the answer names them.")
]
Candidates = Annotated[int, typer.Option("--candidates", "-c", min=1, help="Passages handed to the reranker.")]
Fusion = Annotated[
    float | None,
    typer.Option(
        "--fusion",
        min=0,
        callback=_finite,
        help="Weight of the first stage's score in the order; as stored with the model.",
    ),
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", callback=_finite, help="Leave out passages that score lower.")
]
MinProbability = Annotated[
    float | None,
    typer.Option("--min-probability", min=0.0, max=1.0, help="Leave out passages that are less probably relevant."),
]
EvidenceSentences = Annotated[
    int, typer.Option("--evidence", "-e", min=0, help="Show the best sentences of each passage instead of its text.")
]
Abstain = Annotated[
    bool,
    typer.Option("--abstain", help="Show nothing, and exit with 3, where no passage reaches the stored threshold."),
]
NO_EVIDENCE = 3
"""Exit code of ``--abstain``."""


def check_question(text: str, name: str = "QUERY") -> str:
    """Return the question without surrounding white space; a blank one is wrong usage."""
    if not text.strip():
        usage_error(f"{name} is empty; give a question in quotes.")
    return text.strip()
