"""What training pairs are built from: questions, their gold passages, and the collection that negatives come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from biorerank_plugins.articles.identifiers import as_pmid
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, find_beir, read_passages, read_qrels, read_queries
from biorerank_plugins.readers.answered import AnsweredQuestion, read_answered
from biorerank_plugins.text import sentences
from biorerank_plugins.text.templates import passage_text
from biorerank_plugins.training.negatives import Question
from biorerank_plugins.training.rows import normalised


@dataclass(slots=True)
class Material:
    """Questions and a collection of passages; a passage is known by its position.

    Questions with the same letters and digits are one question with the evidence of all, and so are passages.
    """

    questions: list[Question] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # as a model reads them
    documents: list[str | None] = field(default_factory=list)
    # Id of a question as its file has it ► id of the question here.
    names: dict[str, str] = field(default_factory=dict)
    # Id of a passage as its file has it ► positions here (several where passages were cut into sentences).
    parts: dict[str, list[int]] = field(default_factory=dict)
    _questions: dict[str, int] = field(default_factory=dict)
    _passages: dict[str, int] = field(default_factory=dict)

    def add_passage(self, id_: str, text: str, document: str | None) -> int:
        """Add a passage unless its text is there; return its position."""
        key = normalised(text)
        position = self._passages.get(key)
        if position is None:
            position = self._passages[key] = len(self.texts)
            if id_ in self.parts:  # by another text: ids of different files may be equal
                id_ = f"{id_}#{position}"
            self.ids.append(id_)
            self.texts.append(text)
            self.documents.append(document)
        self.parts.setdefault(id_, [position])
        return position

    def add_question(
        self, id_: str, text: str, gold: Iterable[int], documents: Iterable[str], negatives: Iterable[int] = ()
    ) -> None:
        """Add a question, or its evidence to the same question."""
        named = {_document_key(document) for document in documents}
        documents = {*named, *(self.documents[position] or "" for position in gold)} - {""}
        place = self._questions.setdefault(normalised(text), len(self.questions))
        if place == len(self.questions):
            unique = id_ if id_ and id_ not in self.names else f"{id_}#{place}"
            self.questions.append(Question(unique, text, frozenset(), frozenset()))
        known = self.questions[place]
        self.questions[place] = replace(
            known,
            gold=known.gold.union(gold),
            documents=known.documents | documents,
            negatives=known.negatives.union(negatives),
        )
        self.names.setdefault(id_, known.id)


def read_material(
    inputs: Sequence[str | Path],
    *,
    corpus: Sequence[str | Path] = (),
    split: str = "train",
    min_grade: int = 1,
    limit_questions: int | None = None,
    skip: Callable[[str], bool] | None = None,
    report: ReadReport | None = None,
    skip_bad: bool = False,
) -> Material:
    """Read questions with their evidence; questions without any are left out.

    :param inputs: files of questions with what answers them (BioASQ Task B, question and answer, ``{"query", "pos",
        "neg"}``, PubMedQA, SQuAD's layout, CSV), or folders in BEIR's layout.
    :param corpus: further passages that negatives may be drawn from, in any form that passages are read in.
    :param split: which judgements of a BEIR folder.
    :param min_grade: from which grade on a judged passage is evidence.
    :param skip: says of a question's text that the question is to be left out.
    :param report: is filled with the malformed lines that ``skip_bad`` leaves out.
    :raises ReaderError: if an input cannot be read, or holds no question with evidence.
    """
    material = Material()
    report = ReadReport() if report is None else report
    bad_lines: Literal["error", "skip"] = "skip" if skip_bad else "error"
    for path in map(Path, inputs):
        if path.is_dir():
            answered = _beir_questions(material, path, split, min_grade)
        else:
            answered = read_answered(path, bad_lines=bad_lines, report=report)
        n_answered = 0
        for question in answered:
            if limit_questions is not None and len(material.questions) >= limit_questions:
                break
            n_answered += bool(question.passages)
            if question.passages and not (skip is not None and skip(question.text)):
                gold = [_add_passage(material, passage) for passage in question.passages]
                against = [_add_passage(material, passage) for passage in question.negatives]
                material.add_question(question.id, question.text, gold, question.documents, against)
        if not n_answered and len(material.questions) != limit_questions:
            raise ReaderError("No question with a passage that answers it, so there are no positives.", str(path))
    for source in corpus:
        for passage in read_passages(source, bad_lines=bad_lines, report=report):
            _add_passage(material, passage)
    return material


def _add_passage(material: Material, passage: Passage) -> int:
    document = _document_key(passage.metadata.get("document")) or DEFAULT_KEYS.pmid_of(passage) or as_pmid(passage.id)
    return material.add_passage(passage.id, passage_text(passage), document or None)


def _document_key(document: object) -> str:
    """Return the one name of an article: its PMID, in whatever way it is written, else what it is called."""
    return as_pmid(document) or ("" if document is None else str(document))


def _beir_questions(material: Material, folder: Path, split: str, min_grade: int) -> Iterator[AnsweredQuestion]:
    """Give the judged questions of a folder; all of its passages become part of the collection."""
    found = find_beir(folder, split=split)
    qrels = read_qrels(found.qrels)
    passages = {passage.id: passage for passage in read_passages(found.corpus)}
    for passage in passages.values():
        _add_passage(material, passage)
    for query in read_queries(found.queries):
        gold = [
            passages[id_] for id_, grade in qrels.get(query.id, {}).items() if grade >= min_grade and id_ in passages
        ]
        yield AnsweredQuestion(query.id, query.text, tuple(gold), frozenset())


def split_sentences(material: Material, *, least_characters: int = 12) -> Material:
    """Return the same material with every passage cut into sentences; each sentence of a gold passage is gold.

    :param least_characters: shorter pieces are left out; a passage that has no longer one stays whole.
    """
    split = Material(names=material.names)
    parts: list[list[int]] = []
    for id_, text, document in zip(material.ids, material.texts, material.documents, strict=True):
        pieces = [text[start:end] for start, end in sentences.split_sentences(text)]
        kept = [piece for piece in pieces if len(piece) >= least_characters] or [text]
        parts.append([split.add_passage(f"{id_}.{number}", sentence, document) for number, sentence in enumerate(kept)])

    def cut(wholes: Iterable[int]) -> list[int]:
        return [position for whole in wholes for position in parts[whole]]

    split.questions += [
        replace(one, gold=frozenset(cut(one.gold)), negatives=frozenset(cut(one.negatives)))
        for one in material.questions
    ]
    split.parts |= {id_: cut(wholes) for id_, wholes in material.parts.items()}
    return split


def read_question_texts(path: str | Path) -> list[str]:
    """Return the questions of a file or folder that must be kept out of training.

    :param path: a file of questions (BEIR, BioASQ, question and answer, rows with ``question``, tab-separated, plain
        lines), or a folder in BEIR's layout, of which the questions judged in its ``test`` split count.
    """
    path = Path(path)
    if path.is_dir():
        found = find_beir(path)
        judged = read_qrels(found.qrels)
        return [query.text for query in read_queries(found.queries) if query.id in judged]
    try:
        return [query.text for query in read_queries(path)]
    except ReaderError:
        # No ids, or ids that repeat: a question file is nothing else for that reason.
        return [question.text for question in read_answered(path)]
