"""Ask a question with LlamaIndex, and read an answer that cites its sources: python examples/qa_llama_index.py

Documents become nodes, nodes an index; ``BioRetriever`` finds candidates in it, ``BioRerankPostprocessor`` puts the
right evidence first. Without a language model the answer is made of the evidence sentences themselves. With one
(any server of OpenAI's protocol, as Ollama) LlamaIndex's response synthesizer writes it:

    python examples/qa_llama_index.py --llm http://localhost:11434/v1 --llm-model qwen3:4b

Needs: pip install 'biorerank-plugins[llama-index,llm]'. No key and no internet.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from llama_index.core import PromptTemplate, QueryBundle
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from biorerank_plugins import Evidence, Passage, demo
from biorerank_plugins.answers.llm import ChatModel
from biorerank_plugins.answers.quoted import Answer, cite, quote
from biorerank_plugins.answers.written import INSTRUCTIONS, WrittenAnswer
from biorerank_plugins.errors import BioRerankError
from biorerank_plugins.llama_index import BioRerankPostprocessor, BioRetriever
from biorerank_plugins.readers import read_passages

QUESTION = "On which enzyme does vericiguat act, and does it need endogenous nitric oxide to do so?"
PROMPT = PromptTemplate(INSTRUCTIONS + "\n\nPassages:\n\n{context_str}\n\nQuestion: {query_str}")


class LocalLLM(CustomLLM):
    """What LlamaIndex calls; ``server`` is the connection."""

    server: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.server.model, context_window=8192, num_output=512)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.server.complete([{"role": "user", "content": prompt}]))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        text = ""
        for piece in self.server.stream([{"role": "user", "content": prompt}]):
            text += piece
            yield CompletionResponse(text=text, delta=piece)


def make_retriever(index: str | None) -> BioRetriever:
    """Open a saved index (``biorerank index``), or index the demo collection in memory."""
    if index is not None:
        return BioRetriever(index, similarity_top_k=50)
    nodes = [
        TextNode(id_=passage.id, text=passage.text, metadata={**passage.metadata, "title": passage.title})
        for passage in read_passages(demo.__path__[0] + "/corpus.jsonl")
    ]
    return BioRetriever.from_nodes(nodes, similarity_top_k=50)


def make_engine(retriever: BioRetriever, chat: ChatModel | None) -> RetrieverQueryEngine:
    """Two stages and, with a language model, a synthesizer."""
    reranker = BioRerankPostprocessor(top_n=5, evidence=2, retracted="drop")
    llm = MockLLM() if chat is None else LocalLLM(server=chat)  # without any, LlamaIndex would look for OpenAI's key
    synthesizer = get_response_synthesizer(llm=llm, text_qa_template=PROMPT, streaming=True)
    return RetrieverQueryEngine(retriever, response_synthesizer=synthesizer, node_postprocessors=[reranker])


def passage_of(node: NodeWithScore) -> Passage:
    """Return a node as a passage, for citations."""
    return Passage(node.node_id, node.text, title=node.metadata.get("title"), metadata=dict(node.metadata))


def quoted(question: str, nodes: list[NodeWithScore]) -> Answer:
    """Return the evidence sentences as an answer; the ranking says whether it is one."""
    found = [(passage_of(one), [Evidence(**line) for line in one.metadata["biorerank_evidence"]]) for one in nodes]
    return quote(question, found, state=nodes[0].metadata.get("biorerank_answer") if nodes else None)


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


def show_written(engine: RetrieverQueryEngine, question: str, nodes: list[NodeWithScore]) -> WrittenAnswer:
    """Print what the language model writes as it comes, then the sources it cites, then what is wrong with it."""
    passages = [passage_of(node) for node in nodes]
    numbered = [
        NodeWithScore(node=TextNode(text=f"[{number}] {passage.title}. {passage.text}"), score=node.score)
        for number, (passage, node) in enumerate(zip(passages, nodes, strict=True), start=1)
    ]
    written = WrittenAnswer(question, passages)
    response: Any = engine.synthesize(QueryBundle(question), numbered)
    for piece in written.read(response.response_gen):
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
        engine = make_engine(make_retriever(options.index), chat)
        print(f"Question: {options.question}\n")
        nodes = engine.retrieve(QueryBundle(options.question))
        answer = quoted(options.question, nodes)
        if answer.state == "nothing":
            print("No evidence: nothing in the collection answers this.")
            return 3
        if chat is None or show_written(engine, options.question, nodes).error is not None:
            show_answer(answer)
    except (BioRerankError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 3 if answer.state == "not_sure" else 0


if __name__ == "__main__":
    sys.exit(main())
