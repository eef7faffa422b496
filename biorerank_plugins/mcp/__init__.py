"""A server of the Model Context Protocol over one index: agents search it, rerank with it, and read its passages.

Needs ``mcp``: ``pip install 'biorerank-plugins[mcp]'``. The command is ``biorerank mcp``.

>>> from biorerank_plugins.mcp import Library, create_server             # doctest: +SKIP
>>> server = create_server(Library(lambda: TwoStageSearch(index, BioReranker())))  # doctest: +SKIP
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names
from biorerank_plugins.errors import require_extra

if TYPE_CHECKING:
    from biorerank_plugins.mcp.library import Library
    from biorerank_plugins.mcp.server import create_server, run_http, run_stdio

__all__ = ["Library", "create_server", "run_http", "run_stdio"]

_HOMES = {
    "Library": "biorerank_plugins.mcp.library",
    "create_server": "biorerank_plugins.mcp.server",
    "run_http": "biorerank_plugins.mcp.server",
    "run_stdio": "biorerank_plugins.mcp.server",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, partial(require_extra, "mcp"))
