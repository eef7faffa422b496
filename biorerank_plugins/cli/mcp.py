"""``biorerank mcp``: an index as tools of agents."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from biorerank_plugins.cli.loading import Models, check_index
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import option, path_option
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.two_stage import TwoStageSearch


@command
def mcp(
    *,
    index: Annotated[Path, path_option("A folder that biorerank index wrote.", metavar="DIR")],
    http: Annotated[bool, option("Serve streamable HTTP on 127.0.0.1 instead of stdin and stdout.", "--http")] = False,
    port: Annotated[int | None, option("For --http; 8000.", "--port", "-p", min=1, max=65535)] = None,
    models: Models,
    output: Annotated[Output, "quiet", "debug"],
) -> None:
    """Serve an index to agents over the Model Context Protocol: tools search_evidence, rerank and get_passage.

    Clients start this command themselves and speak to it over stdin and stdout; everything else goes to stderr. --http
    serves programs of this machine at http://127.0.0.1:PORT/mcp.

    Example: biorerank mcp --index pubmed-index
    """
    if port is not None and not http:
        usage_error("--port is for --http; over stdin and stdout there is no port.")
    check_index(index)
    from biorerank_plugins.mcp import Library, run_http, run_stdio

    def opened() -> TwoStageSearch:
        from biorerank_plugins.two_stage import TwoStageSearch

        return TwoStageSearch(models.open_beside_reranker(index), models.load_reranker())

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if output.debug:  # of this package alone: it logs no text of a question or passage
        logging.getLogger("biorerank_plugins").setLevel(logging.DEBUG)
    library = Library(opened)
    if http:
        output.note(f"Serving {index} on http://127.0.0.1:{port or 8000}/mcp; Ctrl-C stops.")
        run_http(library, port=port or 8000)
        return
    if sys.stdin.isatty():
        output.note("Waiting for a client on stdin: its configuration starts this command. Ctrl-C stops.")
    run_stdio(library)
