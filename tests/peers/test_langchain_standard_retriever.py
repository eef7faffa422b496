"""LangChain's own standard tests of a retriever, on ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests

from biorerank_plugins import BiEncoder, PassageIndex
from biorerank_plugins.langchain import BioRetriever

# The mark is for the one coroutine among their tests, and pytest-asyncio warns of it on the others.
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio':pytest.PytestWarning"),
]

TEXTS = ["p53 suppresses tumours", "aspirin binds platelets", "insulin lowers glucose", "brca1 gene", "heart failure"]


class TestBioRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _index(self, tiny_encoder_dir: Path) -> None:
        self.index = PassageIndex.build(TEXTS, encoder=BiEncoder(tiny_encoder_dir, device="cpu"))

    @property
    def retriever_constructor(self) -> type[BioRetriever]:
        return BioRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self.index}

    @property
    def retriever_query_example(self) -> str:
        return "what does p53 suppress"


class TestBioRetrieverOfDocuments(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _encoder(self, tiny_encoder_dir: Path) -> None:
        self.encoder = BiEncoder(tiny_encoder_dir, device="cpu")

    @property
    def retriever_constructor(self) -> Any:
        return BioRetriever.from_documents

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"documents": [Document(page_content=text) for text in TEXTS], "encoder": self.encoder}

    @property
    def retriever_query_example(self) -> str:
        return "what does p53 suppress"
