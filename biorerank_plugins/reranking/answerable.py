"""Whether the answer is among candidates: one of three states, and the words of the question that none of them has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from biorerank_plugins.first_stage.analysis import words
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.passages import Answerability

if TYPE_CHECKING:
    from biorerank_plugins.models.answering import AnswerModel

# Words that ask or join; passages answer without them.
ASKING = frozenset(
    "what which who whom whose when where why how does did can could should would may might are was were has have had "
    "much many often long any kind type name list describe explain tell there the and for with from that this not but "
    "its into than between about".split()
)
_ROOT, _ENDING = 4, 2  # characters: what a word and its forms have in common, and what they may end in
_SHORTEST = 3  # characters; shorter words are units and numbers more often than what is asked for


def decide(
    query: str, values: Sequence[float], texts: Iterable[str], calibration: Calibration, model: AnswerModel
) -> Answerability:
    """Return the state of a question.

    :param values: what orders the candidates, without boosts; at least one.
    :param texts: of the candidates.
    :param calibration: from such a value to a probability.
    """
    probability = model.probability([calibration.log_odds(value) for value in values])
    if probability >= model.answered:
        return Answerability("answered", probability)
    return Answerability(
        "nothing" if probability < model.nothing else "not_sure", probability, unseen_words(query, texts)
    )


def unseen_words(query: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the words of a question that stand in no text, in no form of theirs.

    >>> unseen_words("Does nintedanib slow fibrosis?", ["Pirfenidone slowed fibrotic disease.", "Fibrosis."])
    ('nintedanib',)
    """
    asked = dict.fromkeys(word for word in words(query) if len(word) >= _SHORTEST and word not in ASKING)
    for text in texts:
        if not asked:
            break
        said = set(words(text))
        for word in [*asked]:
            root = word[: max(_ROOT, len(word) - _ENDING)]
            if any(other.startswith(root) for other in said):
                del asked[word]
    return tuple(asked)
