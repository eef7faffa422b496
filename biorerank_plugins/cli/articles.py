"""Options about the articles that passages are from: retraction, recency, kinds of study."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from biorerank_plugins.cli import _common

__all__ = ["Boost", "Recency", "Retracted", "RetractedArticles", "article_options"]


class RetractedArticles(StrEnum):
    """What becomes of retracted articles."""

    KEEP = "keep"
    FLAG = "flag"
    DROP = "drop"


Retracted = Annotated[
    RetractedArticles,
    typer.Option("--retracted", help="Retracted articles: keep, flag (mark them), or drop (do not rank them)."),
]
Recency = Annotated[
    float | None,
    typer.Option(
        "--recency",
        metavar="YEARS",
        help="Add 1 to the logit of this year's articles, half of it for each so many years of age.",
    ),
]
Boost = Annotated[
    list[str] | None,
    typer.Option(
        "--boost",
        metavar="TYPE=WEIGHT",
        help="Add to the logit of a publication type, as Meta-Analysis=0.5; may be given repeatedly.",
    ),
]


def article_options(
    retracted: RetractedArticles = RetractedArticles.KEEP,
    recency: float | None = None,
    boost: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the options of ``rank``; what cannot be is wrong usage.

    :param retracted: as given.
    :param recency: half-life in years.
    :param boost: ``TYPE=WEIGHT`` texts.
    """
    from biorerank_plugins.articles.boosts import Boosts

    if recency is None and not boost:
        return {"retracted": retracted.value, "boosts": None}
    types = dict(_weight(text) for text in boost or ())
    if len(types) < len(boost or ()):
        _common.usage_error("--boost: a type is given twice.")
    try:
        boosts = Boosts(recency_half_life_years=recency, publication_types=types)
    except ValueError as error:
        message = str(error).replace("recency_half_life_years", "--recency").replace("publication_types", "--boost")
        _common.usage_error(message)
    return {"retracted": retracted.value, "boosts": boosts}


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name.strip(), float(weight)
    except ValueError:
        _common.usage_error(f"--boost {text!r}: expected TYPE=WEIGHT, as Meta-Analysis=0.5.")
