"""The tests of the protocol share one index and one reranker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.served import index_dir, oracle

if TYPE_CHECKING:
    from biorerank_plugins import BioReranker, TwoStageSearch
    from biorerank_plugins.mcp import Library

__all__ = ["index_dir", "oracle"]


@pytest.fixture(scope="session")
def search(index_dir: Path, oracle: BioReranker) -> Iterator[TwoStageSearch]:
    """Both stages, called directly."""
    from biorerank_plugins import PassageIndex, TwoStageSearch

    with PassageIndex.load(index_dir) as index:
        yield TwoStageSearch(index, oracle)


@pytest.fixture(scope="session")
def library(search: TwoStageSearch) -> Library:
    """The same behind the tools; not closed, for it owns neither."""
    from support.mcp import Library

    return Library(lambda: search)


@pytest.fixture(scope="session")
def http_url(index_dir: Path, tiny_cross_encoder_dir: Path) -> Iterator[str]:
    """Address of a server over HTTP, in a process of its own."""
    from support.mcp import http_server

    with http_server(index_dir, tiny_cross_encoder_dir) as url:
        yield url
