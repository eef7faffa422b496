"""Real servers on free ports of this machine, with the tiny models.

Nothing is imported outside the fixtures: the tests of other projects' clients run where this package is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from biorerank_plugins import BioReranker
    from support.serve import Running


@pytest.fixture(scope="session")
def index_dir(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small index."""
    from support.serve import small_index

    folder = tmp_path_factory.mktemp("served") / "index"
    small_index(tiny_encoder_dir).save(folder)
    return folder


@pytest.fixture(scope="session")
def server(tiny_cross_encoder_dir: Path, index_dir: Path) -> Iterator[Running]:
    """A server with a model and an index; tests do not change it."""
    from biorerank_plugins import BioReranker, PassageIndex
    from support.serve import started

    with started(
        BioReranker(tiny_cross_encoder_dir, device="cpu"),
        open_index=lambda: PassageIndex.load(index_dir),
        names=("tiny", "rerank-v3.5"),
    ) as running:
        yield running


@pytest.fixture(scope="session")
def oracle(tiny_cross_encoder_dir: Path) -> Iterator[BioReranker]:
    """The same model, called directly."""
    from biorerank_plugins import BioReranker

    with BioReranker(tiny_cross_encoder_dir, device="cpu") as reranker:
        yield reranker
