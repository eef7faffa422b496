"""The examples of frameworks: what they ask by themselves, and the passages that answer it."""

from __future__ import annotations

import re

from biorerank_plugins.readers import read_passages, read_qrels
from support import DEMO

__all__ = ["QUESTION", "assert_the_right_passage_is_quoted", "texts_of_gold"]

QUESTION = "On which enzyme does vericiguat act, and does it need endogenous nitric oxide to do so?"
_QUESTION_ID = "question-12"


def texts_of_gold() -> list[str]:
    """Return the texts of the passages that are judged relevant to the question."""
    judged = read_qrels(DEMO / "qrels" / "test.tsv")[_QUESTION_ID]
    relevant = {id_ for id_, grade in judged.items() if grade > 0}
    return [" ".join(p.text.split()) for p in read_passages(DEMO / "corpus.jsonl") if p.id in relevant]


def assert_the_right_passage_is_quoted(printed: str) -> None:
    """What an example without a model prints: it quotes a relevant passage word for word, and lists what it cites."""
    lines = printed.splitlines()
    assert lines[0] == f"Question: {QUESTION}"
    quoted = [one.strip() for one in re.split(r"\[\d+\]", lines[2]) if one.strip()]
    assert any(quoted[0] in text for text in texts_of_gold())
    numbers = re.findall(r"\[(\d+)\]", lines[2])
    sources = [line for line in lines[4:] if line.strip()]
    assert [line.split("]")[0].lstrip("[") for line in sources] == list(dict.fromkeys(numbers))
    assert all(0 < float(line.split()[1]) <= 1 for line in sources)
