"""A collection small enough to work out by hand, and models that count words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from biorerank_plugins import Passage
from biorerank_plugins.readers import Query

PASSAGES = [
    Passage("noise", "gout gout gout"),
    Passage("right", "gout uric acid"),
    Passage("other", "asthma steroid"),
]
QUERIES = [Query("q1", "gout uric acid"), Query("q2", "asthma"), Query("unjudged", "steroid")]
QRELS = {"q1": {"right": 1}, "q2": {"other": 2}}


class CountWords:
    """An encoder whose vectors count words."""

    words = ("gout", "uric", "acid", "asthma", "steroid")
    dimension = 5
    model_id = "count-words"
    content_hash = "0"

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[query.split().count(word) for word in self.words] for query in queries], dtype=np.float32)

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self.encode_queries([passage.text for passage in passages])

    def config(self) -> dict[str, Any]:
        return {"type": "CountWords"}
