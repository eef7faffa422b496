"""Haystack 3 components; they are defined in ``haystack_integrations``, and this is a shorter way to them.

Haystack loads saved pipelines only from modules that it trusts, and ``haystack_integrations`` is one of them: a saved
pipeline with these components loads in a process that never imported this package.

>>> from biorerank_plugins.haystack import BioRanker                       # doctest: +SKIP
>>> BioRanker(top_k=3).run(query="Is p53 a tumour suppressor?", documents=[])  # doctest: +SKIP
{'documents': []}
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names
from biorerank_plugins.errors import require_extra

if TYPE_CHECKING:
    from haystack_integrations.components.embedders.biorerank import BioDocumentEmbedder, BioTextEmbedder
    from haystack_integrations.components.rankers.biorerank import BioRanker
    from haystack_integrations.components.retrievers.biorerank import BioRetriever

__all__ = ["BioDocumentEmbedder", "BioRanker", "BioRetriever", "BioTextEmbedder"]

_HOMES = {
    "BioDocumentEmbedder": "haystack_integrations.components.embedders.biorerank",
    "BioRanker": "haystack_integrations.components.rankers.biorerank",
    "BioRetriever": "haystack_integrations.components.retrievers.biorerank",
    "BioTextEmbedder": "haystack_integrations.components.embedders.biorerank",
}

# The components import the modules beside this file, which would find it half loaded.
__getattr__, __dir__ = lazy_names(__name__, _HOMES, partial(require_extra, "haystack"))
