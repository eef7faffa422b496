"""Ask a question with Haystack, and read an answer that cites its sources: python examples/qa_haystack.py

``BioRetriever`` finds candidates in a saved index, ``BioRanker`` puts the right evidence first. Pipelines are saved to
YAML and loaded again before they run, as you would deploy them. Without a language model the answer is made of the
evidence sentences themselves. With one (any server of OpenAI's protocol, as Ollama) Haystack's own prompt builder and
generator write it:

    python examples/qa_haystack.py --llm http://localhost:11434/v1 --llm-model qwen3:4b

Needs: pip install 'biorerank-plugins[haystack,llm]'. No key and no internet.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # Haystack reports its use unless told otherwise

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.utils import Secret

from biorerank_plugins import Evidence, Passage, PassageIndex, demo
from biorerank_plugins.answers.llm import KEY_VARIABLE, ChatModel, llm_error
from biorerank_plugins.answers.quoted import Answer, cite, quote
from biorerank_plugins.answers.written import INSTRUCTIONS, WrittenAnswer
from biorerank_plugins.errors import BioRerankError, LLMError
from biorerank_plugins.haystack import BioRanker, BioRetriever
from biorerank_plugins.readers import read_passages

QUESTION = "On which enzyme does vericiguat act, and does it need endogenous nitric oxide to do so?"
PROMPT = [
    ChatMessage.from_system(INSTRUCTIONS),
    ChatMessage.from_user(
        "Passages:\n\n{% for one in documents %}[{{ loop.index }}] {{ one.meta.title }}. {{ one.content }}\n\n"
        "{% endfor %}Question: {{ query }}"
    ),
]


def make_search(index: str) -> Pipeline:
    """Both stages."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", BioRetriever(index, top_k=50))
    pipeline.add_component("ranker", BioRanker(top_k=5, evidence=2, retracted="drop"))
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def make_writer(chat: ChatModel) -> Pipeline:
    """Prompt and language model: a pipeline of its own, so that no model is asked where there is no evidence."""
    os.environ.setdefault(KEY_VARIABLE, "none")  # local servers want no key, OpenAI's client wants one
    pipeline = Pipeline()
    pipeline.add_component("prompt", ChatPromptBuilder(PROMPT, required_variables=["documents", "query"]))
    generator = OpenAIChatGenerator(
        api_key=Secret.from_env_var(KEY_VARIABLE),  # the saved pipeline names the variable, not the key
        model=chat.model,
        api_base_url=chat.base_url,
        timeout=chat.timeout,
        max_retries=0,
    )
    pipeline.add_component("llm", generator)
    pipeline.connect("prompt.prompt", "llm.messages")
    return pipeline


def saved_and_loaded(pipeline: Pipeline, path: Path) -> Pipeline:
    """Write a pipeline to YAML, and read it again, as a service would that is deployed elsewhere."""
    path.write_text(pipeline.dumps(), encoding="utf-8")
    return Pipeline.loads(path.read_text(encoding="utf-8"))


def show_written(writer: Pipeline, question: str, documents: list[Document], chat: ChatModel) -> WrittenAnswer:
    """Print what the language model writes as it comes, then the sources it cites, then what is wrong with it."""
    written = WrittenAnswer(question, [passage_of(document) for document in documents])

    def show(chunk: StreamingChunk) -> None:
        print(written.add(chunk.content or ""), end="", flush=True)

    inputs = {"documents": documents, "query": question}
    try:
        replies = writer.run({"prompt": inputs, "llm": {"streaming_callback": show}})["llm"]["replies"]
        if replies[0].meta.get("finish_reason") is None:
            written.error = LLMError(f"{chat.model} broke off in the middle of its answer: what came is incomplete.")
    except Exception as error:  # Haystack wraps what its components raise
        written.error = llm_error(error, chat.base_url, chat.model, chat.timeout)
    print(written.end(), end="\n\n")
    for number in written.cited:
        print(f"[{number}] {cite(written.passages[number - 1])}")
    for note in written.notes:
        print(f"Note: {note}")
    return written


def passage_of(document: Document) -> Passage:
    """Return a document as a passage, for citations."""
    return Passage(document.id, document.content or "", title=document.meta.get("title"), metadata=dict(document.meta))


def quoted(question: str, documents: list[Document]) -> Answer:
    """Return the evidence sentences as an answer; the ranking says whether it is one."""
    found = [(passage_of(one), [Evidence(**line) for line in one.meta["biorerank_evidence"]]) for one in documents]
    return quote(question, found, state=documents[0].meta.get("biorerank_answer") if documents else None)


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
        with tempfile.TemporaryDirectory() as scratch:
            if options.index is None:
                options.index = f"{scratch}/demo-index"
                with PassageIndex.build(read_passages(demo.__path__[0] + "/corpus.jsonl")) as built:
                    built.save(options.index)
            search = saved_and_loaded(make_search(options.index), Path(scratch, "search.yaml"))
            print(f"Question: {options.question}\n")
            asked = {"query": options.question}
            documents = search.run({"retriever": asked, "ranker": asked})["ranker"]["documents"]
            answer = quoted(options.question, documents)
            if answer.state == "nothing":
                print("No evidence: nothing in the collection answers this.")
                return 3
            if chat is not None:
                writer = saved_and_loaded(make_writer(chat), Path(scratch, "writer.yaml"))
                written = show_written(writer, options.question, documents, chat)
            if chat is None or written.error is not None:
                show_answer(answer)
    except (BioRerankError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 3 if answer.state == "not_sure" else 0


if __name__ == "__main__":
    sys.exit(main())
