"""Options that several commands share, alone or in groups, and how their values are read.

An option is called as its parameter; names are written where there is a short one, and for a flag without ``--no-``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
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
_CONDITION = re.compile(r"\s*(?P<key>[^=!<>~]+?)\s*(?P<operator>>=|<=|!=|==|=|>|<|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_NAMES = {"=": "==", "~": "contains"}

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


def option(text: str, *names: str, **settings: Any) -> Any:
    """Return an option with this help."""
    return typer.Option(*names, help=text, **settings)


def path_option(text: str, *names: str, **settings: Any) -> Any:
    """Return an option that is a path, or several, with this help."""
    return option(text, *names, parser=path, **settings)


def repeatable(text: str, *names: str, **settings: Any) -> Any:
    """Return an option with this help, and that it may be given repeatedly."""
    return option(f"{text}; may be given repeatedly.", *names, **settings)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


IndexArgument = Annotated[
    Path, typer.Argument(metavar="INDEX", parser=path, help="A folder that biorerank index wrote.")
]
IndexOption = Annotated[Path | None, path_option("Passages: a folder that biorerank index wrote.")]
Queries = Annotated[Path | None, path_option("A file of questions.")]
Candidates = Annotated[int, option("Passages handed to the reranker.", "--candidates", "-c", min=1)]
Fusion = Annotated[
    float | None,
    option("Weight of the first stage's score in the order; as stored with the model.", min=0, callback=_finite),
]
Effort = Annotated[EffortChoice, option("full: the reranker reads all candidates; auto: those that may be shown.")]
Filter = Annotated[list[str] | None, repeatable("As year>=2015", metavar="CONDITION")]
Retracted = Annotated[
    RetractedArticles, option("Retracted articles: keep, flag (mark them), or drop (do not rank them).")
]


@dataclass(frozen=True, slots=True)
class Kept:
    """Which passages of a ranking are shown, and whether in sentences."""

    min_score: Annotated[float | None, option("Leave out passages that score lower.", callback=_finite)] = None
    min_probability: Annotated[
        float | None, option("Leave out passages that are less probably relevant.", min=0.0, max=1.0)
    ] = None
    evidence: Annotated[
        int, option("Show the best sentences of each passage instead of its text.", "--evidence", "-e", min=0)
    ] = 0
    abstain: Annotated[
        bool, option("Show nothing, and exit with 3, where no passage reaches the stored threshold.", "--abstain")
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
        option(
            "Add 1 to the logit of this year's articles, half of it for each so many years of age.", metavar="YEARS"
        ),
    ] = None
    boost: Annotated[
        list[str] | None,
        repeatable("Add to the logit of a publication type, as Meta-Analysis=0.5", metavar="TYPE=WEIGHT"),
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


def parse_filters(texts: Sequence[str]) -> dict[str, Any] | None:
    """Turn conditions into one filter; all of them must hold.

    A value is JSON where it can be read as JSON (a number, ``true``, ``"in quotes"``, ``["a", "b"]``), else a string.
    ``pmid=23185200`` finds the number and the string, since it is hard to know which of them a collection holds; order
    is compared among numbers, or, with a value in quotes, among strings. ``~`` looks into a list.

    >>> parse_filters(["year>=2015", "journal=BMJ"])
    {'$and': [{'year': {'>=': 2015}}, {'journal': {'==': 'BMJ'}}]}
    """
    filters = [_checked(text) for text in texts]
    if not filters:
        return None
    return filters[0] if len(filters) == 1 else {"$and": filters}


def _checked(text: str) -> dict[str, Any]:
    """Parse a condition and let the index's language judge it, so that nothing is loaded for one that cannot be."""
    from biorerank_plugins.first_stage.filters import compile_filter

    condition = _parse(text)
    try:
        compile_filter(condition)
    except (TypeError, ValueError) as error:
        usage_error(f"--filter {text!r:.80}: {error}")
    return condition


def _parse(text: str) -> dict[str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None or not match["value"]:
        usage_error(
            f"--filter {text!r} is no condition: expected KEY, one of = != >= <= > < ~, and a value, as 'year>=2015'."
        )
    key, operator = match["key"], _NAMES.get(match["operator"], match["operator"])
    try:
        value = json.loads(match["value"])
    except (ValueError, RecursionError):  # no JSON, or none that Python takes: an integer of thousands of digits
        value = match["value"]
    if operator in ("==", "!="):
        membership = "in" if operator == "==" else "not in"
        if isinstance(value, list):
            return {key: {operator: value[0]} if len(value) == 1 else {membership: value}}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {key: {membership: [value, match["value"]]}}
    return {key: {operator: value}}


def check_question(text: str, name: str = "QUERY") -> str:
    """Return the question without surrounding white space; a blank one is wrong usage."""
    if not text.strip():
        usage_error(f"{name} is empty; give a question in quotes.")
    return text.strip()


def check_writable(*targets: Path | None, are_folders: bool = False) -> None:
    """Find out before the work, not after it, that its results cannot be written."""
    for target in filter(None, targets):
        parent = target.absolute().parent
        if not parent.is_dir():
            fail(f"{target} cannot be written: there is no folder {parent}.")
        if not are_folders and (target.is_dir() or not os.access(target if target.exists() else parent, os.W_OK)):
            fail(f"{target} cannot be written: it is a folder, or may not be written to.")
