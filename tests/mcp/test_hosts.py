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

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
            return tools, schema, found.raw_output

    tools, schema, found = asyncio.run(talk())
    assert list(tools) == ["search_evidence", "rerank", "get_passage"]
    assert schema["required"] == ["question"] and {"k", "filters", "sentences"} <= set(schema["properties"])
    expected = search.search(QUERY, top_k=2, filters={"year": {"<": 2019}})
    assert [one["id"] for one in found.structured_content["passages"]] == [line.passage.id for line in expected]


def test_haystack_lists_and_calls_them(http_url: str, oracle: BioReranker):
    pytest.importorskip("haystack_integrations.tools.mcp", reason="mcp-haystack is not installed")
    from haystack_integrations.tools.mcp import MCPToolset, StreamableHttpServerInfo

    toolset = MCPToolset(StreamableHttpServerInfo(url=http_url), invocation_timeout=120, eager_connect=True)
    try:
        tools = {tool.name: tool for tool in toolset}
        assert list(tools) == ["search_evidence", "rerank", "get_passage"]
        answer = json.loads(tools["rerank"].invoke(question=QUERY, passages=TEXTS))
    finally:
        toolset.close()
    found = json.loads(answer["content"][0]["text"])["passages"]
    assert [one["index"] for one in found] == [ranked.input_index for ranked in oracle.rank(QUERY, TEXTS)]
