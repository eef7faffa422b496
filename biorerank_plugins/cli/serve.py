"""``biorerank serve``: rerank and search over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from biorerank_plugins.cli.loading import Models, check_index
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import FirstStage, option, path_option, repeatable
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.serve import Engine

_MEGABYTE = 1_000_000


@command
def serve(
    *,
    index: Annotated[Path | None, path_option("An index, for /search; without it, none.", metavar="DIR")] = None,
    host: Annotated[str, option("Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, option("Port; 0 takes a free one.", "--port", "-p", min=0, max=65535)] = 8080,
    api_key: Annotated[
        str | None,
        option(
            "Key that clients must send; others see it in the list of processes, unless it is in the environment.",
            metavar="KEY",
            envvar="BIORERANK_API_KEY",
            show_default=False,
        ),
    ] = None,
    model_name: Annotated[list[str] | None, repeatable("Name of the model in requests", metavar="NAME")] = None,
    strict_model_names: Annotated[
        bool, option("Refuse requests that name another model.", "--strict-model-names")
    ] = False,
    cors_origin: Annotated[list[str] | None, repeatable("Origin whose pages may call", metavar="URL")] = None,
    first_stage: Annotated[FirstStage | None, option("How /search finds candidates where a request is silent.")] = None,
    max_body: Annotated[float, option("Megabytes a request.", min=0.001)] = 10.0,
    max_texts: Annotated[int, option("Texts a request.", min=1)] = 1_000,
    max_waiting: Annotated[int, option("Pairs under way; then 429.", min=1)] = 5_000,
    max_connections: Annotated[int, option("Open connections.", min=1)] = 512,
    deadline: Annotated[float, option("Seconds an answer may take.", min=0.001)] = 60.0,
    drain_delay: Annotated[float, option("Seconds between SIGTERM and taking no more connections.", min=0)] = 0.0,
    drain_timeout: Annotated[float, option("Seconds in which requests under way are answered then.", min=0)] = 30.0,
    ray: Annotated[int, option("So many replicas on Ray Serve, instead of one process.", min=0, metavar="N")] = 0,
    ray_cpus: Annotated[float, option("Processors a replica asks Ray for.", min=0)] = 1.0,
    ray_gpus: Annotated[float, option("GPUs, or parts, a replica asks Ray for.", min=0)] = 0.0,
    models: Models,
    output: Output,
) -> None:
    """Serve a reranker over HTTP for clients of Text Embeddings Inference, Cohere and Jina; with --index, search too.

    Routes: /rerank, /v1/rerank, /v2/rerank, /score, /v1/score, /search, /health, /ready, /metrics, and /docs, which
    describes them. --json prints one line with the URL when everything is loaded.

    Example: biorerank serve --index pubmed-index --port 8080
    """
    from biorerank_plugins.serve import Limits, Server

    if api_key is not None and not api_key.strip():
        usage_error("--api-key is blank; give one, or leave it out.")
    limits = Limits(
        max_body_bytes=int(max_body * _MEGABYTE),
        max_texts=max_texts,
        max_waiting=max_waiting,
        deadline=deadline,
        max_connections=max_connections,
    )
    names = tuple(model_name or ())
    stage = None if first_stage is None else first_stage.value
    build = partial(
        _engine, models, index, first_stage=stage, names=names, limits=limits, strict_model_names=strict_model_names
    )
    where: dict[str, Any] = {
        "host": host,
        "port": port,
        "api_key": api_key,
        "cors_origins": tuple(cors_origin or ()),
        "drain_timeout": drain_timeout,
    }
    if index is not None:
        check_index(index)
    if ray:
        if port == 0 or drain_delay:
            usage_error("--ray needs a --port, and takes no --drain-delay.")
        from biorerank_plugins.serve.replicas import Replicas

        replicas = Replicas(build=build, count=ray, cpus=ray_cpus, gpus=ray_gpus, **where)
        output.note(f"Starting {ray} replicas; then {replicas.url} answers.")
        replicas.run(on_ready=lambda: _tell(output, replicas.url, names, index is not None))
        return
    engine = build()
    server = Server(
        engine,
        drain_delay=drain_delay,
        **where,
        on_ready=lambda: _tell(output, server.url, engine.names, engine.searches),
    )
    output.note(f"Loading the model; then {server.url} answers.")
    server.run()


def _engine(models: Models, index: Path | None, **options: Any) -> Engine:
    """Return an engine, not yet started: the server says that it is alive while models are loaded.

    It is made from plain types, since replicas make theirs in other processes.
    """
    from biorerank_plugins.serve import Engine

    open_index = None if index is None else partial(models.open_beside_reranker, index)
    return Engine(models.reranker(), open_index=open_index, **options)


def _tell(output: Output, url: str, names: Sequence[str], searches: bool) -> None:
    output.document({"url": url, "models": list(names), "search": searches}, indent=None)
    sys.stdout.flush()  # whoever started us reads it to know that we are there
    what = "reranking and search" if searches else "reranking"
    output.note(f"Serving {what} with {', '.join(names) or 'the model'} on {url}; Ctrl-C stops.")
