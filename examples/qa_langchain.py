"""Ask a question with LangChain, and read an answer that cites its sources: python examples/qa_langchain.py

``BioRetriever`` finds candidates, ``BioRerankCompressor`` puts the right evidence first. Without a language model the
answer is made of the evidence sentences themselves. With one (any server of OpenAI's protocol, as Ollama) a chain
writes it:

    python examples/qa_langchain.py --llm http://localhost:11434/v1 --llm-model qwen3:4b

Needs: pip install 'biorerank-plugins[langchain,llm]'. No key and no internet.
"""

import argparse
import sys
from collections.abc import Iterator

from langchain_core.documents import Document
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from biorerank_plugins import Evidence, Passage, demo
from biorerank_plugins.answers.llm import ChatModel
from biorerank_plugins.answers.quoted import Answer, cite, quote
from biorerank_plugins.answers.written import INSTRUCTIONS, WrittenAnswer
from biorerank_plugins.errors import BioRerankError
from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever
from biorerank_plugins.readers import read_passages

QUESTION = "On which enzyme does vericiguat act, and does it need endogenous nitric oxide to do so?"
PROMPT = ChatPromptTemplate.from_messages(
    [("system", INSTRUCTIONS), ("user", "Passages:\n\n{passages}\n\nQuestion: {question}")]
)
ROLES = {"human": "user", "ai": "assistant"}


def make_retriever(index: str | None) -> BioRetriever:
    """Open a saved index (``biorerank index``), or index the demo collection in memory."""
    if index is not None:
        return BioRetriever(index=index, k=50)
    documents = [
        Document(id=passage.id, page_content=passage.text, metadata={**passage.metadata, "title": passage.title})
        for passage in read_passages(demo.__path__[0] + "/corpus.jsonl")
    ]
    return BioRetriever.from_documents(documents, k=50)


def make_search(retriever: BioRetriever) -> Runnable[str, list[Document]]:
    """Both stages.

    With ``langchain-classic``, ``ContextualCompressionRetriever`` puts the two together in the same way.
    """
    compressor = BioRerankCompressor(top_n=5, evidence=2, retracted="drop")
    return RunnableLambda(lambda question: compressor.compress_documents(retriever.invoke(question), question))


def make_writer(chat: ChatModel) -> Runnable[dict, str]:
    """Prompt and language model; the answer streams."""

    def write(prompts: Iterator[PromptValue]) -> Iterator[str]:
        for prompt in prompts:
            yield from chat.stream(
                [{"role": ROLES.get(one.type, one.type), "content": str(one.content)} for one in prompt.to_messages()]
            )

    return PROMPT | RunnableGenerator(write)


def passage_of(document: Document) -> Passage:
    """Return a document as a passage, for citations."""
    title = document.metadata.get("title")
    return Passage(document.id or "", document.page_content, title=title, metadata=dict(document.metadata))


def quoted(question: str, documents: list[Document]) -> Answer:
    """Return the evidence sentences as an answer; the ranking says whether it is one."""
    found = [(passage_of(one), [Evidence(**line) for line in one.metadata["biorerank_evidence"]]) for one in documents]
    return quote(question, found, state=documents[0].metadata.get("biorerank_answer") if documents else None)


def show_answer(answer: Answer) -> None:
    """Print the quoted sentences and their sources, or the passages that come nearest."""
    if answer.state == "not_sure":
        print(f"Not sure that the answer is here. {answer.why} Nearest:\n")
    else:
        print(answer.text, end="\n\n")
    for citation in answer.citations:
        best = max(one.evidence.probability for one in answer.quotes if one.number == citation.number)
        print(f"[{citation.number}] {best:.2f}  {citation.text}")
    for citation in answer.nearest:
        print(f"[{citation.number}] {citation.text}")


def show_written(writer: Runnable[dict, str], question: str, documents: list[Document]) -> WrittenAnswer:
    """Print what the language model writes as it comes, then the sources it cites, then what is wrong with it."""
    passages = [passage_of(document) for document in documents]
    numbered = [f"[{number}] {one.title}. {one.text}" for number, one in enumerate(passages, start=1)]
    written = WrittenAnswer(question, passages)
    for piece in written.read(writer.stream({"passages": "\n\n".join(numbered), "question": question})):
        print(piece, end="", flush=True)
    print("\n")
    for number in written.cited:
        print(f"[{number}] {cite(passages[number - 1])}")
    for note in written.notes:
        print(f"Note: {note}")
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--index", help="a folder that biorerank index wrote; without it, the demo collection")
    parser.add_argument("--llm", help="address of a language model; $BIORERANK_LLM_URL")
    parser.add_argument("--llm-model", help="its name; $BIORERANK_LLM_MODEL")
    options = parser.parse_args()
    if not options.question.strip():
        parser.error("The question is empty.")
    try:
        chat = ChatModel.from_settings(options.llm, options.llm_model)
        search = make_search(make_retriever(options.index))
        print(f"Question: {options.question}\n")
        documents = search.invoke(options.question)
        answer = quoted(options.question, documents)
        if answer.state == "nothing":
            print("No evidence: nothing in the collection answers this.")
            return 3
        if chat is None or show_written(make_writer(chat), options.question, documents).error is not None:
            show_answer(answer)
    except (BioRerankError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 3 if answer.state == "not_sure" else 0


if __name__ == "__main__":
    sys.exit(main())
