"""The tools in other frameworks' agents: what theirs call gives what a direct call gives."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.serve import QUERY, TEXTS

from biorerank_plugins import BioReranker, TwoStageSearch

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of pydantic, in LlamaIndex's agent
]


@pytest.fixture(autouse=True)
def _their_connections_end_here() -> Iterator[None]:
    """The frameworks' clients leave connections to the collector of garbage: not to that of the next test."""
    yield
    gc.collect()


def test_llama_index_lists_and_calls_them(http_url: str, search: TwoStageSearch):
    pytest.importorskip("llama_index.tools.mcp", reason="llama-index-tools-mcp is not installed")
    from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

    async def talk() -> Any:
        client = BasicMCPClient(http_url)
        async with client.http_client:
            tools = {tool.metadata.name: tool for tool in await McpToolSpec(client).to_tool_list_async()}
            schema = tools["search_evidence"].metadata.get_parameters_dict()
            found = await tools["search_evidence"].acall(question=QUERY, k=2, filters={"year": {"<": 2019}})
            said = await _llama_index_agent(list(tools.values())).run(QUERY)
            return tools, schema, found.raw_output, str(said)

    tools, schema, found, said = asyncio.run(talk())
    assert list(tools) == ["search_evidence", "rerank", "get_passage"]
    assert schema["required"] == ["question"] and {"k", "filters", "sentences"} <= set(schema["properties"])
    expected = search.search(QUERY, top_k=2, filters={"year": {"<": 2019}})
    assert [one["id"] for one in found.structured_content["passages"]] == [line.passage.id for line in expected]
    assert search.search(QUERY, top_k=1)[0].passage.text in said


def _llama_index_agent(tools: list[Any]) -> Any:
    """An agent whose language model asks for evidence, and says what it was given."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    def decide(messages: Any, **_: Any) -> ChatMessage:
        if messages[-1].role == "tool":
            return ChatMessage(role="assistant", content=messages[-1].content)
        call = ToolCallBlock(tool_call_id="1", tool_name="search_evidence", tool_kwargs={"question": QUERY, "k": 1})
        return ChatMessage(role="assistant", blocks=[call])

    return FunctionAgent(tools=tools, llm=MockFunctionCallingLLM(response_generator=decide), streaming=False)


def test_haystack_lists_and_calls_them(http_url: str, oracle: BioReranker):
    pytest.importorskip("haystack_integrations.tools.mcp", reason="mcp-haystack is not installed")
    from haystack.components.agents import Agent
    from haystack.dataclasses import ChatMessage
    from haystack_integrations.tools.mcp import MCPToolset, StreamableHttpServerInfo

    toolset = MCPToolset(StreamableHttpServerInfo(url=http_url), invocation_timeout=120, eager_connect=True)
    try:
        tools = {tool.name: tool for tool in toolset}
        assert list(tools) == ["search_evidence", "rerank", "get_passage"]
        answer = json.loads(tools["rerank"].invoke(question=QUERY, passages=TEXTS))
        agent = Agent(chat_generator=_Asks(), tools=toolset)
        said = agent.run(messages=[ChatMessage.from_user(QUERY)])["last_message"].text
    finally:
        toolset.close()
    found = json.loads(answer["content"][0]["text"])["passages"]
    assert [one["index"] for one in found] == [ranked.input_index for ranked in oracle.rank(QUERY, TEXTS)]
    best = next(iter(oracle.rank(QUERY, TEXTS)))
    assert f'"index":{best.input_index}' in said.replace(" ", "").replace("\\", "")


class _Asks:
    """A chat generator that asks for a ranking, and says what it was given."""

    def run(self, messages: list[Any], tools: Any = None, **_: Any) -> dict[str, Any]:
        from haystack.dataclasses import ChatMessage, ToolCall

        if result := messages[-1].tool_call_result:
            return {"replies": [ChatMessage.from_assistant(str(result.result))]}
        call = ToolCall(tool_name="rerank", arguments={"question": QUERY, "passages": TEXTS, "k": 1})
        return {"replies": [ChatMessage.from_assistant(tool_calls=[call])]}
