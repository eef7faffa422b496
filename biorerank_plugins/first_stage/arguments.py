"""Checks of what callers of the first stage pass in."""

from __future__ import annotations

from typing import Literal, cast, get_args

from biorerank_plugins.errors import PassageIndexError

FirstStage = Literal["hybrid", "dense", "lexical"]
"""How candidates are found: by the bi-encoder and BM25 together, or by one of them."""


def refuse_string(value: object, what: str) -> None:
    """Refuse one string where several are wanted."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"Expected a list of {what}, got one {type(value).__name__}: {value!r:.80}. Put it in a list.")


def check_length(max_length: int, possible: tuple[int, int]) -> int:
    """Return a number of tokens, if it is between the least and the most that a model can read."""
    least, longest = possible
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not least <= max_length <= longest:
        raise ValueError(f"max_length={max_length!r} is not possible: this model reads {least} to {longest} tokens.")
    return max_length


def check_first_stage(first_stage: str | None, *, has_lexical: bool) -> FirstStage:
    """Return how to search; ``None`` gives ``"hybrid"`` where that is possible, else ``"dense"``.

    :raises ValueError: if ``first_stage`` is unknown.
    :raises PassageIndexError: if it needs a lexical part and there is none.
    """
    if first_stage is None:
        return "hybrid" if has_lexical else "dense"
    if first_stage not in get_args(FirstStage):
        raise ValueError(f"first_stage={first_stage!r} is unknown. Choose 'hybrid', 'dense' or 'lexical'.")
    if first_stage != "dense" and not has_lexical:
        raise PassageIndexError(
            f"first_stage={first_stage!r} needs a lexical part, and this index was built without one (lexical=False). "
            "Use first_stage='dense', or build the index again."
        )
    return cast(FirstStage, first_stage)
