"""Documents, and models whose values can be worked out by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document

QUERY = "is p53 a tumour suppressor"

TEXTS = [
    "aspirin inhibits platelets",
    "p53 suppresses tumours",
    "insulin lowers glucose",
    "tp53 gene mutation in cancer cells",
    "metformin treatment of diabetes",
    "heart failure patients",
    "brca1 is a tumour suppressor gene",
    "drug binds the receptor in the liver",
]


def documents(**of_all: Any) -> list[Document]:
    """Eight documents with ids, titles and retrieval scores; more metadata of all of them may be given."""
    return [
        Document(
            id=f"d{number}",
            page_content=text,
            metadata={"title": f"title {text.split()[0]}", "retrieval_score": 1 - number / 10, **of_all},
        )
        for number, text in enumerate(TEXTS)
    ]


def numbered(*logits: object) -> list[Document]:
    """Documents whose text starts with the logit that :func:`~support.scorers.by_number` reads there."""
    return [Document(id=f"n{place}", page_content=f"{logit} text") for place, logit in enumerate(logits)]


class Length(BaseCrossEncoder):
    """A cross-encoder of LangChain: a text's score is its length, which is no logit."""

    def __init__(self) -> None:
        self.inside = self.most_inside = 0

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        time.sleep(0.005)
        self.inside -= 1
        return [float(len(text)) for _, text in text_pairs]


async def ticks_during(work: Awaitable[Any]) -> tuple[Any, int]:
    """Return what ``work`` gives, and how often a task that sleeps for 5 ms woke up meanwhile."""
    woke_up = 0

    async def tick() -> None:
        nonlocal woke_up
        while True:
            await asyncio.sleep(0.005)
            woke_up += 1

    ticking = asyncio.create_task(tick())
    try:
        return await work, woke_up
    finally:
        ticking.cancel()
