"""An HTTP server over one reranker: Text Embeddings Inference's, Cohere's and Jina's rerank protocols, and search.

Needs ``fastapi``, ``uvicorn`` and ``prometheus-client``: ``pip install 'biorerank-plugins[serve]'``. The command is
``biorerank serve``.

>>> from biorerank_plugins.serve import Engine, create_app  # doctest: +SKIP
>>> app = create_app(Engine(BioReranker()))                 # doctest: +SKIP
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names
from biorerank_plugins.errors import require_extra

if TYPE_CHECKING:
    from biorerank_plugins.serve.app import create_app
    from biorerank_plugins.serve.engine import Engine
    from biorerank_plugins.serve.limits import Limits
    from biorerank_plugins.serve.run import Server

__all__ = ["Engine", "Limits", "Server", "create_app"]

_HOMES = {
    "Engine": "biorerank_plugins.serve.engine",
    "Limits": "biorerank_plugins.serve.limits",
    "Server": "biorerank_plugins.serve.run",
    "create_app": "biorerank_plugins.serve.app",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, partial(require_extra, "serve"))
