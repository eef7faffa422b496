"""The one vocabulary of the package: what goes in, what comes out.

All classes are frozen; metadata is a read-only copy of what the caller gave, and results turn into plain JSON.
"""

from __future__ import annotations

from biorerank_plugins.passages.passage import Candidate, Deletion, Passage, PassageLike, as_candidate, as_candidates
from biorerank_plugins.passages.ranking import Answerability, AnswerState, Evidence, RankedPassage, Ranking

__all__ = [
    "AnswerState",
    "Answerability",
    "Candidate",
    "Deletion",
    "Evidence",
    "Passage",
    "PassageLike",
    "RankedPassage",
    "Ranking",
    "as_candidate",
    "as_candidates",
]
