"""Rankings with evidence ► what a system hands in to BioASQ Task B, phase A: documents and snippets of each question.

::

    {"questions": [{"id": "…", "body": "…", "type": "…",
                    "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/23185200", …],
                    "snippets": [{"document": "http://www.ncbi.nlm.nih.gov/pubmed/23185200", "text": "…",
                                  "beginSection": "abstract", "endSection": "abstract",
                                  "offsetInBeginSection": 131, "offsetInEndSection": 358}, …]}, …]}

At most ten of each. Offsets are code points of the section: ``section[offsetInBeginSection:offsetInEndSection] ==
text``. A sentence's section is

* what the passage's metadata say under ``section`` (``"title"``, ``"abstract"``, ``"sections.0"``), if they do;
* ``"title"``, where the text begins with the title and the sentence stands in it;
* ``"abstract"`` otherwise; its offsets count from behind such a title.

A passage that is only a part of its section says under ``offset`` where in the section it begins. Only documents with a
PMID can be handed in: from the metadata, or the passage's id where that is one (a number as PubMed counts).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biorerank_plugins._common.files import write_json
from biorerank_plugins.articles.metadata import MetadataKeys, check_metadata_keys
from biorerank_plugins.evaluation.bioasq.measures import TOP
from biorerank_plugins.evaluation.bioasq.places import TITLE, parts_of, place
from biorerank_plugins.passages import Passage, RankedPassage, Ranking
from biorerank_plugins.readers import Query
from biorerank_plugins.readers.bioasq import parse_questions
from biorerank_plugins.readers.jsonl import is_bioasq_document
from biorerank_plugins.readers.report import Reading
from biorerank_plugins.readers.source import source_of

_ADDRESS = "http://www.ncbi.nlm.nih.gov/pubmed/"
_PMID = re.compile(r"[1-9][0-9]{0,7}")

ScoreTexts = Callable[[str, Sequence[str]], Sequence[float]]
"""From a question and texts to scores, as ``BioReranker.score``."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a title or abstract."""

    pmid: str
    section: str  # "title", "abstract", or what the metadata call it
    begin: int  # first code point in the section
    end: int  # one past the last
    text: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return the snippet as BioASQ writes it."""
        return {
            "document": _ADDRESS + self.pmid,
            "text": self.text,
            "offsetInBeginSection": self.begin,
            "offsetInEndSection": self.end,
            "beginSection": self.section,
            "endSection": self.section,
        }


@dataclass(frozen=True, slots=True)
class Submission:
    """What is handed in, as BioASQ writes it, and the ids of passages that could not be."""

    questions: tuple[dict[str, Any], ...]
    without_pmid: tuple[str, ...] = ()
    out_of_place: tuple[str, ...] = ()  # another passage, with another text, claims the same place of the article

    def to_dict(self) -> dict[str, Any]:
        """Return the file's content."""
        return {"questions": list(self.questions)}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file; an earlier one is replaced when it is complete."""
        write_json(Path(path), self.to_dict())


def bioasq_submission(
    answers: Iterable[tuple[Query, Ranking]],
    *,
    score: ScoreTexts | None = None,
    types: Mapping[str, str] | None = None,
    metadata_keys: MetadataKeys | None = None,
) -> Submission:
    """Turn rankings into a submission.

    Documents are in the order of the ranking. Snippets are the best sentences of these documents, whatever their rank.

    :param answers: questions with their rankings, made with ``evidence=10`` (at most so many snippets are handed in).
    :param score: scores titles as the evidence was scored (``reranker.score``), so that a title can be a snippet too;
        ``None`` hands in sentences of the texts only.
    :param types: BioASQ's type of each question (:func:`question_types`), written beside it.
    :param metadata_keys: where PMIDs and titles stand; ``None``: the common spellings.
    :raises ValueError: if no passage has a PMID, or rankings were made without ``evidence``.

    Example::

        questions = read_queries("BioASQ-task13bPhaseA-testset1.json")
        rankings = search.search_many([q.text for q in questions], top_k=10, evidence=10)
        bioasq_submission(zip(questions, rankings), score=reranker.score).write("submission.json")
    """
    export = _Export(check_metadata_keys(metadata_keys), score)
    types = types or {}
    questions = tuple(export.question(query, ranking, types.get(query.id)) for query, ranking in answers)
    if export.without_pmid and not any(question["documents"] for question in questions):
        raise ValueError(
            f"None of the {len(export.without_pmid)} passages has a PMID, and BioASQ takes nothing else. Give it as "
            "metadata['pmid'] or as the id, or say with MetadataKeys(pmid=…) where it stands."
        )
    return Submission(questions, tuple(export.without_pmid), tuple(export.out_of_place))


def question_types(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the types ("yesno", "factoid", …) of a BioASQ file's questions, by id; of another file none.

    :raises ReaderError: if the file cannot be read.
    """
    with source_of(Path(path)).open() as file:
        if not is_bioasq_document(file.begin):
            return {}
        records = list(parse_questions(file, Reading(), lambda _, question: question))
    return {str(one.get("id")): one["type"] for one in records if isinstance(one.get("type"), str)}


@dataclass(slots=True)
class _Export:
    keys: MetadataKeys
    score: ScoreTexts | None
    without_pmid: dict[str, None] = field(default_factory=dict)  # sets that keep their order
    out_of_place: dict[str, None] = field(default_factory=dict)

    def question(self, query: Query, ranking: Ranking, type_: str | None) -> dict[str, Any]:
        if any(one.passage.text.strip() for one in ranking) and not any(one.evidence for one in ranking):
            raise ValueError(f"The ranking of question {query.id!r} has no evidence: rank with evidence={TOP}.")
        named = [(one, pmid) for one in ranking if (pmid := self._pmid(one.passage))]
        documents = list(dict.fromkeys(pmid for _, pmid in named))[:TOP]
        handed_in = [(one, pmid) for one, pmid in named if pmid in documents]
        found = [*self._titles(query, handed_in), *self._sentences(handed_in)]
        return {
            "id": query.id,
            "body": query.text,
            **({} if type_ is None else {"type": type_}),
            "documents": [_ADDRESS + pmid for pmid in documents],
            "snippets": [snippet.to_dict() for snippet in _best(found)],
        }

    def _pmid(self, passage: Passage) -> str:
        pmid = self.keys.pmid_of(passage) or (passage.id if _PMID.fullmatch(passage.id) else "")
        if not pmid:
            self.without_pmid[passage.id] = None
        return pmid

    def _titles(self, query: Query, named: Sequence[tuple[RankedPassage, str]]) -> Iterator[Snippet]:
        """Give the titles that stand outside the texts."""
        if self.score is None:
            return
        titles: dict[str, str] = {}
        for one, pmid in named:
            title = self.keys.title_of(one.passage)
            if title.strip() and not one.passage.text.startswith(title):
                titles.setdefault(pmid, title)
        scores = self.score(query.text, [title.strip() for title in titles.values()]) if titles else []
        for (pmid, title), value in zip(titles.items(), scores, strict=True):
            begin = len(title) - len(title.lstrip())
            end = len(title.rstrip())
            yield Snippet(pmid, TITLE, begin, end, title[begin:end], float(value))

    def _sentences(self, named: Sequence[tuple[RankedPassage, str]]) -> Iterator[Snippet]:
        texts: dict[tuple[str, str, int], str] = {}
        for one, pmid in named:
            text = one.passage.text
            parts = parts_of(one.passage, self.keys)
            own = {(pmid, part.section, part.offset): text[part.start : part.end] for part in parts}
            if any(texts.get(place, content) != content for place, content in own.items()):
                self.out_of_place[one.passage.id] = None
                continue
            texts |= own
            for sentence in one.evidence:
                if (found := place(sentence, parts)) is not None:
                    part, start, end = found
                    piece = text[start:end]  # at the end of a title it may have kept white space that was inside
                    start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
                    if start >= end:
                        continue
                    begin = part.offset + start - part.start
                    yield Snippet(pmid, part.section, begin, begin + end - start, text[start:end], sentence.score)


def _best(snippets: Iterable[Snippet]) -> list[Snippet]:
    """Return the best snippets, best first; of those that share characters the best one."""
    kept: list[Snippet] = []
    for snippet in sorted(snippets, key=lambda one: -one.score):
        shares = any(
            (one.pmid, one.section) == (snippet.pmid, snippet.section)
            and one.begin < snippet.end
            and snippet.begin < one.end
            for one in kept
        )
        if not shares:
            kept.append(snippet)
        if len(kept) == TOP:
            break
    return kept
