"""Haystack's documents as passages, and passages as new documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document

from biorerank_plugins.adapters_common import (
    FIRST_STAGE_KEY,
    MARKS,
    HostTexts,
    copied_metadata,
    host_candidate,
    ranking_marks,
    title_of,
)
from biorerank_plugins.models.stored import stored_template
from biorerank_plugins.passages import Candidate, Passage, RankedPassage, Ranking
from biorerank_plugins.text.templates import Template, check_template, passage_text

# Keys of ``meta``: the first stage's score, and whether no document of the ranking reaches the model's threshold.
RETRIEVAL_SCORE_KEY, NO_EVIDENCE_KEY = "biorerank_retrieval_score", "biorerank_no_evidence"
_OF_THIS_RANKING = (NO_EVIDENCE_KEY, *MARKS)
_OWN_KEYS = (RETRIEVAL_SCORE_KEY, FIRST_STAGE_KEY, *_OF_THIS_RANKING)


def check_documents(documents: object) -> list[Document]:
    """Return a list of documents; raise ``TypeError`` for anything else."""
    if not isinstance(documents, (list, tuple)):
        raise TypeError(f"Expected a list of Documents, got {type(documents).__name__}: {documents!r:.80}")
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            raise TypeError(f"Expected a Document at position {position}, got {type(document).__name__}.")
    return list(documents)


def check_fields(fields: Sequence[str] | None) -> list[str]:
    """Return the metadata keys whose values are put before the content; refuse one string, and the name of a score."""
    if isinstance(fields, str):
        raise ValueError(f"meta_fields_to_embed must be a list of keys, got {fields!r}. Put it in a list.")
    scores = [field for field in fields or () if field in _OWN_KEYS]
    if scores:
        raise ValueError(f"meta_fields_to_embed holds {scores[0]!r}: a model must not read a retrieval score.")
    return list(fields or ())


def joined_text(document: Document, fields: Sequence[str], separator: str) -> str:
    """Return the text that Haystack's own rankers and embedders send: values of ``meta``, then the content."""
    values = [str(document.meta[key]) for key in fields if document.meta.get(key) is not None]
    return separator.join([*values, document.content or ""])


class DocumentTexts:
    """Which text of a document the model reads, and documents as candidates.

    :param fields: metadata keys; whoever names them wants the host's text, whatever the model stores.
    :param separator: what the host's text puts between their values.
    :param suffix: text put after each document.
    """

    def __init__(
        self, model: object, template: Template | None, fields: Sequence[str], separator: str, suffix: str
    ) -> None:
        self._fields, self._separator = fields, separator
        self._texts = HostTexts(model, template)
        if fields:
            self._texts.own, self._texts.template = False, "{text}"
        chosen = self._texts.template
        if suffix:
            written = check_template(stored_template(model) if chosen is None else chosen)
            chosen = lambda passage: passage_text(passage, written) + suffix  # noqa: E731
        self.template: Template | None = chosen
        """What to give to :class:`~biorerank_plugins.BioReranker` as its template."""

    def candidates(self, documents: Sequence[Document]) -> list[Candidate]:
        """Return documents as candidates, in the same order.

        The score that one of our retrievers gave counts, if there is one: joiners and rankers overwrite ``score``, and
        what they write is on another scale.
        """
        return [
            host_candidate(
                self._passage(document), document.meta.get(RETRIEVAL_SCORE_KEY, document.score), rank, document.meta
            )
            for rank, document in enumerate(documents, start=1)
        ]

    def _passage(self, document: Document) -> Passage:
        def host_text() -> str:
            return joined_text(document, self._fields, self._separator)

        return self._texts.passage(str(document.id), document.content or "", _meta(document), host_text)


def ranked_document(document: Document, score: float, ranking: Ranking, ranked: RankedPassage) -> Document:
    """Return a new document with the reranker's score; the first stage's and the evidence are in ``meta``."""
    meta = copied_metadata(document.meta)
    for key in _OF_THIS_RANKING:
        meta.pop(key, None)
    meta |= ranking_marks(ranking, ranked)
    if ranking.no_evidence is not None:
        meta[NO_EVIDENCE_KEY] = ranking.no_evidence
    if ranked.retrieval_score is not None:
        meta[RETRIEVAL_SCORE_KEY] = ranked.retrieval_score
    return replace(document, score=score, meta=meta)


def as_passage(document: Document) -> Passage:
    """Return a document as a passage of an index; scores of an earlier search are left out."""
    return Passage(str(document.id), document.content or "", title_of(document.meta), _meta(document))


def found_document(candidate: Candidate) -> Document:
    """Return a passage that a search found as a document; its title is in ``meta``."""
    found = candidate.passage.to_dict()
    meta = found["metadata"]
    if found["title"] is not None and str(meta.get("title")) != found["title"]:
        meta["title"] = found["title"]
    if candidate.score is not None:
        meta[RETRIEVAL_SCORE_KEY] = float(candidate.score)
    if candidate.first_stage is not None:
        meta[FIRST_STAGE_KEY] = candidate.first_stage
    return Document(id=found["id"], content=found["text"], meta=meta, score=meta.get(RETRIEVAL_SCORE_KEY))


def _meta(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.meta.items() if key not in _OWN_KEYS}
