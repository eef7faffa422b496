"""A drop-in biomedical reranker for RAG, with the bi-encoder first stage that feeds it.

>>> from biorerank_plugins import Passage
>>> Passage("23185200", "Antioxidants lower oxidative stress.").id
'23185200'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names
from biorerank_plugins._common.moved import install as _install_old_names
from biorerank_plugins._common.versions import VERSION as __version__

_install_old_names()

# Where each public name lives. Names are loaded when they are used: importing the package loads neither torch nor a
# framework.
_HOMES = {
    "BiEncoder": "biorerank_plugins.first_stage",
    "BioReranker": "biorerank_plugins.reranking.reranker",
    "Boosts": "biorerank_plugins.articles.boosts",
    "Candidate": "biorerank_plugins.passages",
    "Evidence": "biorerank_plugins.passages",
    "MetadataKeys": "biorerank_plugins.articles.metadata",
    "PairScorer": "biorerank_plugins.scoring.scores",
    "Passage": "biorerank_plugins.passages",
    "PassageIndex": "biorerank_plugins.first_stage",
    "RankedPassage": "biorerank_plugins.passages",
    "Ranking": "biorerank_plugins.passages",
    "TwoStageSearch": "biorerank_plugins.two_stage",
}

__all__ = [
    "BiEncoder",
    "BioReranker",
    "Boosts",
    "Candidate",
    "Evidence",
    "MetadataKeys",
    "PairScorer",
    "Passage",
    "PassageIndex",
    "RankedPassage",
    "Ranking",
    "TwoStageSearch",
    "__version__",
]

if TYPE_CHECKING:
    from biorerank_plugins.articles.boosts import Boosts
    from biorerank_plugins.articles.metadata import MetadataKeys
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.passages import Candidate, Evidence, Passage, RankedPassage, Ranking
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.scoring.scores import PairScorer
    from biorerank_plugins.two_stage import TwoStageSearch

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
