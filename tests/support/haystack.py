"""Documents and scorers that the tests of the Haystack components share."""

from __future__ import annotations

from haystack import Document

QUERY = "is p53 a tumour suppressor"

TEXTS = {
    "a": "p53 suppresses tumours",
    "b": "aspirin inhibits platelets in heart disease",
    "c": "insulin lowers glucose",
    "d": "brca1 mutations raise the risk of cancer in patients",
    "e": "metformin lowers glucose in diabetes",
    "f": "the liver and the kidney",
}


def documents(**fields) -> list[Document]:
    return [
        Document(id=name, content=text, meta={"year": 2000 + number, "tags": [name]}, score=1.0 - number / 10, **fields)
        for number, (name, text) in enumerate(TEXTS.items())
    ]


def ids(result) -> list[str]:
    return [document.id for document in result["documents"]]
