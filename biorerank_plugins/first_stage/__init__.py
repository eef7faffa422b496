"""The first stage: a bi-encoder and a passage index on FAISS and BM25; names are loaded when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.encoder import BiEncoder
    from biorerank_plugins.first_stage.fusion import Hybrid
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates, SearchableIndex

__all__ = ["BiEncoder", "Encoder", "FoundCandidates", "Hybrid", "PassageIndex", "SearchableIndex"]

_MODULES = {
    "BiEncoder": "encoder",
    "Encoder": "protocol",
    "FoundCandidates": "protocol",
    "Hybrid": "fusion",
    "PassageIndex": "index",
    "SearchableIndex": "protocol",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
