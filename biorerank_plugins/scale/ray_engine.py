"""Reading and encoding on Ray Data; what is done with a shard is in :mod:`.shards`, not here.

A task of Ray tokenises the passages of a shard on processors, an encoder (an actor: it loads the model once, on a GPU
where there is one) embeds them and writes the shard. All machines must see the work folder and the model. Ray starts no
dashboard and sends no usage data; a Ray that runs already is used as it is.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import BioRerankError, MissingExtraError, ShardError
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import Work

logger = logging.getLogger(__name__)

_READ_AT_ONCE = 1024  # passages in one row of Ray Data
_OBJECT_STORE = 512 << 20  # bytes; rows are token ids of some shards, and nothing else


@dataclass(frozen=True)
class RayOptions:
    """How to use Ray.

    :param cpus: processors of a local Ray that is started; ``None`` for all.
    :param encoders: encoders at work at a time; ``None`` for one a GPU, or one where there is none.
    :param threads: threads of an encoder on processors; ``None`` for as many as PyTorch takes here.
    :param device: where encoders compute; ``None`` for a GPU where there is one.
    :param dtype: precision of the encoders.
    """

    cpus: int | None = None
    encoders: int | None = None
    threads: int | None = None
    device: str | None = None
    dtype: str = "auto"


@contextmanager
def running_ray(options: RayOptions | None = None) -> Iterator[Any]:
    """Give the module ``ray`` with a Ray that runs: the one there is, else a local one, which is stopped at the end.

    :raises MissingExtraError: if Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers are as nice to others as this process is, not more.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = (options or RayOptions()).cpus or os.cpu_count()
        settings.update(num_cpus=cpus, object_store_memory=_OBJECT_STORE, address="local")
    ray.init(**settings)
    try:
        yield ray
    finally:
        ray.shutdown()


def read_on_ray(
    ray: Any, paths: Sequence[Path], *, on_skipped: Callable[[Any], None], **options: Any
) -> Iterator[Passage]:
    """Read files side by side, as :func:`~biorerank_plugins.readers.read_passages`; passages come in their order.

    :param ray: what :func:`running_ray` gives.
    :param on_skipped: is called with what was left out of a file: ``[path, line, reason]`` each.
    """
    _configure(ray)
    rows = ray.data.from_items([{"path": str(path)} for path in paths], override_num_blocks=len(paths))
    read = rows.flat_map(partial(_read_rows, options=options))
    for row in read.iter_rows():
        content = json.loads(row["content"])
        if "error" in content:
            raise ShardError(content["error"])
        if "skipped" in content:
            on_skipped(content["skipped"])
        yield from (Passage(**fields) for fields in content.get("passages", ()))


def _read_rows(row: dict[str, Any], *, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from biorerank_plugins.readers import ReadReport, read_passages

    report = ReadReport()
    try:
        passages = read_passages(row["path"], report=report, **options)
        while part := list(islice(passages, _READ_AT_ONCE)):
            yield {"content": json.dumps({"passages": [passage.to_dict() for passage in part]})}
    except (BioRerankError, ValueError) as error:  # as a row: an error inside Ray would be tried again and dressed up
        yield {"content": json.dumps({"error": str(error)})}
    skipped = [[one.path, one.line, one.reason] for one in report.skipped]
    yield {"content": json.dumps({"skipped": skipped} if skipped else {})}


def encode_on_ray(
    ray: Any,
    work: Work,
    shards: ShardFolder,
    encoder: Encoder,
    options: RayOptions,
    on_done: Callable[[int], Any],
) -> None:
    """Embed every shard that is not done, as :func:`~.shards.encode_here` does, with the encoders of a Ray.

    :param ray: what :func:`running_ray` gives.
    :param encoder: a :class:`BiEncoder`; each encoder of the Ray is made by its configuration, and must be the same.
    :raises ShardError: if a shard cannot be made; those that were are kept.
    """
    import torch

    from biorerank_plugins.first_stage.encoder import BiEncoder

    if not isinstance(encoder, BiEncoder):
        got = type(encoder).__name__
        raise ShardError(f"On Ray each encoder is made by its configuration: give a BiEncoder, not {got}.")
    _configure(ray)
    from biorerank_plugins.scale.ray_stages import Encode, Tokenise

    gpus, cpus = int(ray.cluster_resources().get("GPU", 0)), int(ray.cluster_resources().get("CPU", 1))
    on_gpu = gpus > 0 and options.device in (None, "cuda")
    encoders = options.encoders or (gpus if on_gpu else 1)
    # So that reading and tokenising never wait for encoders that wait for them.
    share = 0.5 * cpus / encoders if not on_gpu and encoders >= cpus else 1.0
    about = {"catalog": str(work.catalog.resolve()), "folder": str(shards.folder.resolve()), "job": shards.job}
    threads = options.threads or torch.get_num_threads()
    items = [{"number": n, "first": work.rows(n).start, "end": work.rows(n).stop} for n in work.numbers]
    done = (
        ray.data.from_items(items, override_num_blocks=max(1, len(items)))
        .map(Tokenise, fn_constructor_args=(about,), concurrency=(1, max(1, cpus - 1)), num_cpus=0.25)
        .map(
            Encode,
            fn_constructor_args=(about, "cuda" if on_gpu else options.device, options.dtype, threads),
            concurrency=encoders,
            num_cpus=0 if on_gpu else share,
            num_gpus=1 if on_gpu else None,
        )
    )
    for row in done.iter_rows():
        if row["error"]:
            raise ShardError(row["error"])
        on_done(row["count"])


def _configure(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
