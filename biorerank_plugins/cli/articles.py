"""Options about the articles that passages are from: retraction, recency, kinds of study."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from biorerank_plugins.cli.one_line_errors import usage_error


class RetractedArticles(StrEnum):
    """What becomes of retracted articles."""

    KEEP = "keep"
    FLAG = "flag"
    DROP = "drop"


Retracted = Annotated[
    RetractedArticles,
    typer.Option("--retracted", help="Retracted articles: keep, flag (mark them), or drop (do not rank them)."),
]


@dataclass(frozen=True, slots=True)
class Articles:
    """What the articles that passages are from say for the order."""

    retracted: Retracted = RetractedArticles.KEEP
    recency: Annotated[
        float | None,
        typer.Option(
            "--recency",
            metavar="YEARS",
            help="Add 1 to the logit of this year's articles, half of it for each so many years of age.",
        ),
    ] = None
    boost: Annotated[
        list[str] | None,
        typer.Option(
            "--boost",
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
