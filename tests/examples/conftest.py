"""The tests of the examples share one index of the demo collection."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import DEMO

from biorerank_plugins import PassageIndex
from biorerank_plugins.readers import read_passages


@pytest.fixture(scope="session")
def demo_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the index, made with the embedded model; tests do not change it."""
    folder = tmp_path_factory.mktemp("examples") / "index"
    with PassageIndex.build(read_passages(DEMO / "corpus.jsonl")) as index:
        index.save(folder)
    return folder
