"""``biorerank doctor``: whether everything is in order here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from biorerank_plugins.cli.loading import Model, quiet_libraries
from biorerank_plugins.cli.one_line_errors import command, fail
from biorerank_plugins.cli.option_groups import path_option
from biorerank_plugins.cli.output import Column, Output


@command
def doctor(
    *,
    index: Annotated[list[Path] | None, path_option("Check this index wholly; repeatable.", metavar="INDEX")] = None,
    model: Model = None,
    output: Output,
) -> None:
    """Look at this installation: versions, devices, models, caches, and indexes; exit with 1 if something is wrong.

    The reranker is loaded and tried. Nothing is changed, and nobody is asked over a network.

    Example: biorerank doctor --index pubmed-index
    """
    from biorerank_plugins.doctor import examine

    quiet_libraries()
    found = examine(model=model, indexes=index or ())
    output.document(found.to_dict())
    rows = [[part, fact, _shown(value)] for part, facts in found.sections.items() for fact, value in facts.items()]
    output.table([Column("part"), Column("what"), Column("found", wide=True)], rows)
    for problem in found.problems:
        output.warn(problem)
    if found.problems:
        fail(f"{len(found.problems)} problem{'s' if len(found.problems) > 1 else ''}, see above.")
    output.note("Everything is in order.")


def _shown(value: object) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if isinstance(value, bool) or value is None else str(value)
