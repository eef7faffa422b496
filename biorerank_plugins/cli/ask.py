"""``biorerank ask``: answers with citations, in the words of the passages or of a language model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.answers.question_language import question_notes
from biorerank_plugins.cli.chat import chat
from biorerank_plugins.cli.loading import BothModels, check_order
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import (
    NO_EVIDENCE,
    Candidates,
    Effort,
    EffortChoice,
    Filter,
    IndexArgument,
    Retracted,
    RetractedArticles,
    check_question,
    option,
    parse_filters,
    path_option,
)
from biorerank_plugins.cli.output import Output, printable
from biorerank_plugins.cli.views import Source, show_sources

if TYPE_CHECKING:
    from biorerank_plugins.answers.llm import ChatModel
    from biorerank_plugins.answers.quoted import Answer
    from biorerank_plugins.answers.written import WrittenAnswer
    from biorerank_plugins.passages import Evidence, Ranking
    from biorerank_plugins.two_stage import TwoStageSearch


@command
def ask(
    *,
    index: IndexArgument,
    query: Annotated[
        str | None, typer.Argument(help="The question; without one, questions are taken one after another.")
    ] = None,
    sentences: Annotated[int, option("Sentences to quote, at most.", "--sentences", "-s", min=1)] = 4,
    passages: Annotated[int, option("Passages to quote from.", "--passages", "-k", min=1)] = 5,
    candidates: Candidates = 100,
    filter: Filter = None,
    effort: Effort = EffortChoice.FULL,
    retracted: Retracted = RetractedArticles.FLAG,
    llm: Annotated[
        str | None,
        option(
            "Let a language model write the answer: any server with OpenAI's protocol, as Ollama's "
            "http://localhost:11434/v1.",
            metavar="URL",
            envvar="BIORERANK_LLM_URL",
        ),
    ] = None,
    llm_model: Annotated[
        str | None, option("The language model's name.", metavar="NAME", envvar="BIORERANK_LLM_MODEL")
    ] = None,
    history: Annotated[Path | None, path_option("Keep typed questions in this file.", metavar="FILE")] = None,
    models: BothModels,
    output: Output,
) -> None:
    """Answer questions in sentences of the passages, each with its source; exit with 3 where there is no answer.

    There are three answers: sentences; "not sure", with the nearest passages and why; nothing.

    Without QUERY it is a chat: questions are typed one after another, or come from a pipe, one a line (with --json each
    answer is a line). Nothing is written by a language model unless --llm names one; its answer cites the passages, and
    each citation is checked. The sources say which articles are retracted; --retracted drop quotes none of them.
    Research use; not medical advice.

    Example: biorerank ask pubmed-index "Do statins cause muscle pain?"
    """
    check_order("ask", index, query)
    conditions = parse_filters(filter or [])
    question = None if query is None or query == "-" else check_question(query)
    writer = _writer(llm, llm_model)
    with models.open_beside_reranker(index) as opened, models.load_reranker() as reranker:
        from biorerank_plugins.two_stage import TwoStageSearch

        options = {
            "candidates": max(candidates, passages),
            "filters": conditions,
            "top_k": passages,
            "evidence": sentences,
            "retracted": retracted.value,
            "effort": effort.value,
        }
        answerer = _Answerer(output, TwoStageSearch(opened, reranker), options, sentences, writer)
        if question is None:
            chat(output, answerer.answer_one_of_many, history=history)
            return
        answer, _ = answerer.answer(question, indent=2)
        if answer.state == "nothing":
            fail(_nothing(answer), code=NO_EVIDENCE)
        if answer.state == "not_sure":
            raise typer.Exit(NO_EVIDENCE)


def _writer(url: str | None, name: str | None) -> ChatModel | None:
    if url is None or not url.strip():
        return None
    if name is None or not name.strip():
        usage_error("--llm needs --llm-model too: the name under which the server knows the model.")
    from biorerank_plugins.answers.llm import ChatModel

    return ChatModel.from_settings(url, name)


@dataclass(frozen=True, slots=True)
class _Answerer:
    output: Output
    search: TwoStageSearch
    options: dict[str, Any]
    sentences: int
    writer: ChatModel | None

    def answer_one_of_many(self, question: str) -> Ranking | None:
        """Answer a question of a chat; that there is no evidence is an answer there."""
        answer, ranking = self.answer(question, indent=None)
        if answer.state == "nothing":
            self.output.line(_nothing(answer))
            return None
        return ranking

    def answer(self, question: str, *, indent: int | None) -> tuple[Answer, Ranking]:
        """Answer a question, and show all but that nothing was found; return the ranking behind the answer too."""
        from biorerank_plugins.answers.quoted import compose_answer

        for note in question_notes(question):
            self.output.note(note)
        ranking = self.search.search(question, **self.options)
        answer = compose_answer(ranking, max_sentences=self.sentences)
        written = None
        if answer.quotes and self.writer is not None:
            written = self._write(self.writer, question, ranking)
        if self.output.json:
            document = answer.to_dict()
            if written is not None:  # its citations are places in its passages, from 1
                document["written"] = {**written.to_dict(), "passages": [one.id for one in written.passages]}
            self.output.document(document, indent=indent)
        elif answer.state == "not_sure":
            self.output.line(f"Not sure that the answer is here. {answer.why} Look yourself:")
            show_sources(self.output, [Source(c.number, c.text, c.passage) for c in answer.nearest])
        elif answer.quotes and (written is None or written.error is not None):
            if written is not None:
                self.output.line("The passages themselves say:")
            self.output.line(answer.text)
            show_sources(self.output, _quoted(answer))
        return answer, ranking

    def _write(self, writer: ChatModel, question: str, ranking: Ranking) -> WrittenAnswer:
        """Let the language model answer; show what it says as it comes."""
        from biorerank_plugins.answers.written import WrittenAnswer, cited_prompt

        passages = [ranked.passage for ranked in ranking]
        written = WrittenAnswer(question, passages)
        pieces = written.read(writer.stream(cited_prompt(question, passages)))
        if self.output.json:
            for _ in pieces:
                pass
        else:
            _stream(pieces)
            show_sources(self.output, _cited(written, ranking))
        for note in written.notes:
            self.output.warn(note)
        return written


def _nothing(answer: Answer) -> str:
    return f"No evidence: {answer.why[:1].lower()}{answer.why[1:]}"


def _quoted(answer: Answer) -> list[Source]:
    """Return what an extractive answer quotes."""
    sentences: dict[int, list[Evidence]] = {}
    for quote in answer.quotes:
        sentences.setdefault(quote.number, []).append(quote.evidence)
    return [Source(c.number, c.text, c.passage, tuple(sentences[c.number])) for c in answer.citations]


def _cited(written: WrittenAnswer, ranking: Ranking) -> list[Source]:
    """Return what a written answer cites; their numbers are their places in the ranking."""
    from biorerank_plugins.answers.quoted import cite

    cited = [ranking[number - 1] for number in written.cited]
    return [Source(r.rank, cite(r.passage), r.passage, r.evidence[:1]) for r in cited]


def _stream(pieces: Iterator[str]) -> None:
    """Write the pieces of an answer as they come."""
    for piece in pieces:
        # Line ends are the model's own; anything else that drives a terminal is not wanted.
        sys.stdout.write("\n".join(printable(line) for line in piece.replace("\t", " ").split("\n")))
        sys.stdout.flush()
    sys.stdout.write("\n")
