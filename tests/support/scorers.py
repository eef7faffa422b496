"""Models whose logits can be worked out by hand."""

from __future__ import annotations

import time

from biorerank_plugins.testing import ScriptedScorer


def by_number(*, seconds: float = 0.0) -> ScriptedScorer:
    """A text's logit is the number that it begins with, and each takes so many seconds."""

    def read(_: str, text: str) -> float:
        time.sleep(seconds)
        return float(text.split()[0])

    return ScriptedScorer(read)


def length() -> ScriptedScorer:
    """A text's logit is its length."""
    return ScriptedScorer(lambda _, text: float(len(text)))


def zero() -> ScriptedScorer:
    """All texts are the same to it."""
    return ScriptedScorer({}, default=0.0)


def shared_words() -> ScriptedScorer:
    """A text's logit is the number of words that it shares with the query."""
    return ScriptedScorer(lambda query, text: float(len(set(query.split()) & set(text.split()))))


def short_first() -> ScriptedScorer:
    """Short texts are better."""
    return ScriptedScorer(lambda _, text: -float(len(text)))


def unused() -> ScriptedScorer:
    """Nothing may ask it."""

    def refuse(_query: str, _text: str) -> float:
        raise AssertionError("scored")

    return ScriptedScorer(refuse)
