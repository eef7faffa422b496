"""The first stage: a bi-encoder and a passage index on FAISS and BM25; names are loaded when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.encoder import BiEncoder
    from biorerank_plugins.first_stage.fusion import Hybrid
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates, SearchableIndex

__all__ = ["BiEncoder", "Encoder", "FoundCandidates", "Hybrid", "PassageIndex", "SearchableIndex"]

_MODULES = {
    "BiEncoder": ".encoder",
    "Encoder": ".protocol",
    "FoundCandidates": ".protocol",
    "Hybrid": ".fusion",
    "PassageIndex": ".index",
    "SearchableIndex": ".protocol",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
