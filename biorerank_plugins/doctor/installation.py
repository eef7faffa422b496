"""What is installed, and on which machine: each part puts what keeps something from working into a list."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biorerank_plugins import models
from biorerank_plugins._common.versions import VERSION, install_line, version_of

_REQUIRED = ("torch", "transformers", "sentence-transformers", "tokenizers", "faiss-cpu", "numpy", "bm25s")
_MODULES = {
    "faiss-cpu": "faiss",
    "llama-index-core": "llama_index.core",
    "haystack-ai": "haystack",
    "opentelemetry-api": "opentelemetry.trace",
}
_EXTRAS = {
    "llama-index": ("llama-index-core",),
    "haystack": ("haystack-ai",),
    "langchain": ("langchain-core",),
    "train": ("accelerate", "datasets"),
    "eval": ("jinja2", "matplotlib"),
    "pdf": ("pypdf",),
    "formats": ("openpyxl", "pyarrow", "zstandard"),
    "office": ("mammoth",),
    "serve": ("fastapi", "httpx", "prometheus-client", "uvicorn"),
    "mcp": ("mcp",),
    "ray": ("ray",),
    "llm": ("openai",),
    "otel": ("opentelemetry-api",),
}
_PLATFORMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")}
_VARIABLES = (
    "HF_HUB_OFFLINE", "HF_HOME", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "BIORERANK_LLM_URL", "BIORERANK_LLM_MODEL", "BIORERANK_LLM_TIMEOUT",
)  # fmt: skip
_SECRETS = ("BIORERANK_LLM_KEY", "BIORERANK_API_KEY", "HF_TOKEN")
_LEAST_MEMORY = 1 << 30


def _versions(problems: list[str]) -> dict[str, Any]:
    versions: dict[str, Any] = {"biorerank-plugins": VERSION, "python": platform.python_version()}
    for package in _REQUIRED:
        version = version_of(package)
        versions[package] = version
        if version is None:
            problems.append(f"{package} is not installed, and nothing works without it: pip install {package}")
        elif (reason := _import_problem(package)) is not None:
            problems.append(f"{package} {version} cannot be imported ({reason}): install it again.")
    return versions


def _extras(problems: list[str]) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    for extra, packages in _EXTRAS.items():
        missing = [package for package in packages if version_of(package) is None]
        if missing:
            extras[extra] = f"not installed: {install_line(extra)}"
            continue
        extras[extra] = ", ".join(f"{package} {version_of(package)}" for package in packages)
        for package in packages:
            if (reason := _import_problem(package)) is not None:
                problems.append(f"{package} of the extra {extra} cannot be imported ({reason}): install it again.")
    return extras


def _import_problem(package: str) -> str | None:
    try:
        importlib.import_module(_MODULES.get(package, package.replace("-", "_")))
    except Exception as error:  # whatever a broken package raises
        return f"{type(error).__name__}: {error}"[:200]
    return None


def _machine(problems: list[str]) -> dict[str, Any]:
    import torch

    from biorerank_plugins.speed.machine import describe_machine, free_memory

    here = (platform.system(), platform.machine())
    facts = describe_machine("cpu", torch.get_num_threads())
    memory = free_memory()
    if memory is not None and memory < _LEAST_MEMORY:
        problems.append(f"Only {memory >> 20} MiB of memory are free; a reranker and an index need about 1 GiB.")
    return {
        "platform": f"{platform.platform()} ({'supported' if here in _PLATFORMS else 'not tried by the makers'})",
        "processor": facts["cpu"],
        "arithmetic": " ".join(facts["cpu_arithmetic"]) or "-",
        "processors": facts["cpus"],
        "threads": facts["threads"],
        "free memory": "not known" if memory is None else f"{memory / 2**30:.1f} GiB",
        "devices": _devices(torch),
    }


def _devices(torch: Any) -> str:
    names = ["cpu"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        names.append(f"cuda:{number} {facts.name} {facts.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(names)


def _settings(problems: list[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return shown | {name: "set (not shown)" for name in _SECRETS if os.environ.get(name)}


def _models(problems: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in (models.DEFAULT_RERANKER, models.DEFAULT_ENCODER):
        if name not in models.names():
            problems.append(f"The embedded model {name} is not in the package: install biorerank-plugins again.")
            continue
        whole = models.is_as_released(name)
        told[name] = f"sha256 {models.content_hash(models.path(name))[:16]} ({'as released' if whole else 'changed'})"
        if not whole:
            problems.append(f"Files of the embedded model {name} are damaged or changed: install it again.")
    return told


PARTS: Mapping[str, Callable[[list[str]], dict[str, Any]]] = {
    "versions": _versions,
    "extras": _extras,
    "machine": _machine,
    "settings": _settings,
    "models": _models,
}
"""By name, what looks at a part: it is given the list of problems, and returns what it found."""


_QUESTION = "Which drug reverses dabigatran?"
_TEXTS = ("Heparin is given by injection.", "Idarucizumab reverses dabigatran.", "Warfarin was found in clover.")


@contextmanager
def _told(name: str) -> Iterator[list[str]]:
    """Collect what a logger says, whatever the caller has set up."""
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return True

    logger = logging.getLogger(name)
    level = logger.level
    logger.addFilter(keep)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeFilter(keep)
        logger.setLevel(level)


def try_reranker(model: str | None, problems: list[str]) -> dict[str, Any]:
    """Load a reranker, and rank three passages of which one is the answer."""
    from biorerank_plugins.reranking.reranker import BioReranker

    start = time.perf_counter()
    with _told("biorerank_plugins.scoring.backends") as said, BioReranker(model) as reranker:
        reranker.warm_up()
        loaded = time.perf_counter()
        ranking = reranker.rank(_QUESTION, list(_TEXTS))
        seconds = time.perf_counter() - loaded
        told: dict[str, Any] = {
            "model": reranker.model_name,
            "runs": said[0] if said else "as this process loaded it before",
            "loaded in": f"{loaded - start:.2f} s",
            "three passages in": f"{1000 * seconds:.0f} ms",
            "best of three": ranking[0].passage.text,
        }
    if ranking[0].input_index != 1:
        problems.append(
            f"{told['model']} puts {ranking[0].passage.text!r} first for {_QUESTION!r}: it is no good reranker, or "
            "this machine computes wrongly."
        )
    return told


def check_index(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Check every file of an index, open it and search it."""
    from biorerank_plugins.first_stage.verification import is_index, open_version
    from biorerank_plugins.scale.opening import open_index
    from biorerank_plugins.scale.shard_layout import is_sharded, read_layout

    shards = list(read_layout(folder).values()) if is_sharded(folder) else [folder]
    versions = [open_version(shard, "full") for shard in shards if shard == folder or is_index(shard)]
    with open_index(folder) as index:
        index.search("Is it there?", 1)
        told = {
            "passages": len(index),
            "format": versions[0].manifest.get("format_version", versions[0].manifest.get("format")),
            "factory": index.factory,
            "encoder": index.encoder.model_id,
            "lexical part": index.lexical,
        }
    return told | ({"shards": len(shards)} if is_sharded(folder) else {})
