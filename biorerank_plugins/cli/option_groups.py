"""Options that several commands share, alone or in groups, and how their values are read.

An option is called as its parameter; names are written where there is a short one, and for a flag without ``--no-``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.one_line_errors import fail, usage_error

if TYPE_CHECKING:
    from biorerank_plugins.reranking.reranker import BioReranker

NO_EVIDENCE = 3
"""Exit code of ``--abstain``."""

EffortChoice = StrEnum("EffortChoice", {"FULL": "full", "AUTO": "auto"})
FirstStage = StrEnum("FirstStage", {"HYBRID": "hybrid", "DENSE": "dense", "LEXICAL": "lexical"})
RetractedArticles = StrEnum("RetractedArticles", {"KEEP": "keep", "FLAG": "flag", "DROP": "drop"})


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


def path_option(*names: str, help: str, metavar: str | None = None) -> Any:
    """Return an option that is a path, or several."""
    return typer.Option(*names, metavar=metavar, parser=path, help=help)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


IndexArgument = Annotated[
    Path, typer.Argument(metavar="INDEX", parser=path, help="A folder that biorerank index wrote.")
]
IndexOption = Annotated[Path | None, path_option(help="Passages: a folder that biorerank index wrote.")]
Queries = Annotated[Path | None, path_option(help="A file of questions.")]
Candidates = Annotated[int, typer.Option("--candidates", "-c", min=1, help="Passages handed to the reranker.")]
Fusion = Annotated[
    float | None,
    typer.Option(
        min=0, callback=_finite, help="Weight of the first stage's score in the order; as stored with the model."
    ),
]
Effort = Annotated[
    EffortChoice, typer.Option(help="full: the reranker reads all candidates; auto: those that may be shown.")
]
Retracted = Annotated[
    RetractedArticles, typer.Option(help="Retracted articles: keep, flag (mark them), or drop (do not rank them).")
]


@dataclass(frozen=True, slots=True)
class Kept:
    """Which passages of a ranking are shown, and whether in sentences."""

    min_score: Annotated[float | None, typer.Option(callback=_finite, help="Leave out passages that score lower.")] = (
        None
    )
    min_probability: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Leave out passages that are less probably relevant.")
    ] = None
    evidence: Annotated[
        int,
        typer.Option("--evidence", "-e", min=0, help="Show the best sentences of each passage instead of its text."),
    ] = 0
    abstain: Annotated[
        bool,
        typer.Option("--abstain", help="Show nothing, and exit with 3, where no passage reaches the stored threshold."),
    ] = False

    def rank_options(self) -> dict[str, Any]:
        """Return the options of ``rank``."""
        return {name: getattr(self, name) for name in ("min_score", "min_probability", "evidence")}

    def check(self, reranker: BioReranker) -> None:
        """Refuse ``--abstain`` for a model that says nothing about when there is no evidence."""
        if self.abstain and reranker.calibration.evidence_threshold is None:
            fail(f"--abstain needs a threshold, and {reranker.model_name} stores none. Fit one: biorerank calibrate")


@dataclass(frozen=True, slots=True)
class Articles:
    """What the articles that passages are from say for the order."""

    retracted: Retracted = RetractedArticles.KEEP
    recency: Annotated[
        float | None,
        typer.Option(
            metavar="YEARS",
            help="Add 1 to the logit of this year's articles, half of it for each so many years of age.",
        ),
    ] = None
    boost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE=WEIGHT",
            help="Add to the logit of a publication type, as Meta-Analysis=0.5; may be given repeatedly.",
        ),
    ] = None

    def rank_options(self) -> dict[str, Any]:
        """Return the options of ``rank``; what cannot be is wrong usage."""
        from biorerank_plugins.articles.boosts import Boosts

        given = self.boost or ()
        if self.recency is None and not given:
            return {"retracted": self.retracted.value, "boosts": None}
        types = dict(_weight(text) for text in given)
        if len(types) < len(given):
            usage_error("--boost: a type is given twice.")
        try:
            boosts = Boosts(recency_half_life_years=self.recency, publication_types=types)
        except ValueError as error:
            message = str(error).replace("recency_half_life_years", "--recency")
            usage_error(message.replace("publication_types", "--boost"))
        return {"retracted": self.retracted.value, "boosts": boosts}


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name.strip(), float(weight)
    except ValueError:
        usage_error(f"--boost {text!r}: expected TYPE=WEIGHT, as Meta-Analysis=0.5.")


def check_question(text: str, name: str = "QUERY") -> str:
    """Return the question without surrounding white space; a blank one is wrong usage."""
    if not text.strip():
        usage_error(f"{name} is empty; give a question in quotes.")
    return text.strip()


def check_writable(target: Path | None, *, is_folder: bool = False) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    if target is None:
        return
    parent = target.absolute().parent
    if not parent.is_dir():
        fail(f"{target} cannot be written: there is no folder {parent}.")
    if not is_folder and (target.is_dir() or not os.access(target if target.exists() else parent, os.W_OK)):
        fail(f"{target} cannot be written: it is a folder, or may not be written to.")
