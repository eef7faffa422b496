"""Judgements of a collection's passages from BioASQ's gold answers: by the snippets' texts, or by the articles."""

from __future__ import annotations

from collections.abc import Iterable

from biorerank_plugins.evaluation.bioasq.gold import BioASQGold, document_of
from biorerank_plugins.evaluation.bioasq.measures import text_key
from biorerank_plugins.passages import Passage


def qrels_by_text(gold: BioASQGold, passages: Iterable[Passage]) -> tuple[dict[str, dict[str, int]], int]:
    """Judge passages by the gold snippets: relevant is a passage with the text of one (letters and digits compared).

    A gold snippet that no passage has stays in the judgements under a name that no passage has, so that recall is of
    all there is to find.

    :param gold: gold snippets.
    :param passages: the collection.
    :returns: judgements, and the number of gold snippets that the collection lacks.
    """
    ids: dict[str, list[str]] = {}
    for passage in passages:
        ids.setdefault(text_key(passage.text), []).append(passage.id)
    qrels: dict[str, dict[str, int]] = {}
    missing: set[str] = set()
    for name, snippets in gold.snippets.items():
        for key in dict.fromkeys(text_key(snippet.text) for snippet in snippets):
            if key not in ids:
                missing.add(key)
            for passage_id in ids.get(key, [f"missing:{key}"]):
                qrels.setdefault(name, {})[passage_id] = 1
    return qrels, len(missing)


def qrels_by_document(gold: BioASQGold, passages: Iterable[Passage]) -> tuple[dict[str, dict[str, int]], int]:
    """Judge passages by the gold articles: relevant is a passage of one, by the PMID in its metadata or its id.

    For collections of abstracts or full texts, where no passage has just the text of a snippet.

    :param gold: gold articles.
    :param passages: the collection.
    :returns: judgements (none at all if the collection has none of the articles), and the number of gold articles that
        it lacks; these stay in the judgements under names that no passage has.
    """
    ids: dict[str, list[str]] = {}
    wanted = {document for documents in gold.documents.values() for document in documents}
    for passage in passages:
        if (document := document_of(passage)) in wanted:
            ids.setdefault(document, []).append(passage.id)
    if not ids:
        return {}, len(wanted)
    qrels: dict[str, dict[str, int]] = {}
    for name, documents in gold.documents.items():
        for document in documents:
            for passage_id in ids.get(document, [f"missing:{document}"]):
                qrels.setdefault(name, {})[passage_id] = 1
    return qrels, len(wanted - ids.keys())
