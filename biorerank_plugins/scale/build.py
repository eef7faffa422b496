"""From any number of passages to a saved index, in steps that a killed run does not lose."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from biorerank_plugins._common.files import TEMPORARY, write_whole
from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.changes import OnDuplicate, fill
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.lexical import index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.storage import prepared_folder
from biorerank_plugins.passages import PassageLike
from biorerank_plugins.scale.ray_engine import RayOptions, encode_on_ray, running_ray
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import SHARD_SIZE, Work, encode_here, job_of
from biorerank_plugins.scale.vectors import Embeddings, index_vectors

Engine = Literal["local", "ray"]
_PASSAGES = "passages.sqlite"
_IDENTITY = "inputs.json"


def build_index(
    passages: Iterable[PassageLike],
    out: str | os.PathLike[str],
    *,
    work: str | os.PathLike[str] | None = None,
    encoder: Encoder | None = None,
    factory: str = "Flat",
    engine: Engine = "local",
    ray_options: RayOptions | None = None,
    shard_size: int = SHARD_SIZE,
    lists_on_disk: bool = False,
    lexical: bool = True,
    on_duplicate: OnDuplicate = "error",
    identity: str | None = None,
    show_progress: bool = False,
) -> PassageIndex:
    """Build a saved index by way of shards in a work folder; repeat the call to go on after it was killed.

    The index holds the same as one of ``PassageIndex.build``: with ``Flat``, the same vectors bit by bit.

    :param passages: as ``PassageIndex.build`` takes them; read once.
    :param out: folder of the index.
    :param work: folder for what is made on the way, removed in the end; ``None`` for one beside ``out``.
    :param encoder: as ``PassageIndex.build`` takes it; for ``"ray"`` a :class:`BiEncoder`.
    :param factory: as ``PassageIndex.build`` takes it.
    :param engine: ``"local"`` embeds in this process, ``"ray"`` on Ray, which needs the extra ``ray``.
    :param ray_options: how to use Ray.
    :param shard_size: passages of a shard, a multiple of 1,024 for the same batches as on one machine.
    :param lists_on_disk: whether the lists of an IVF stay on disk, see :func:`.vectors.index_vectors`.
    :param lexical: whether to index the words too.
    :param on_duplicate: ``"error"``, or ``"skip"`` to keep the first passage of an id.
    :param identity: see :func:`stage_in_file`.
    :param show_progress: whether to show a progress bar.
    :returns: the index, open, in ``out``.
    :raises PassageIndexError: if there are no passages, too few for the factory, or ``out`` cannot be written.
    :raises ShardError: if the work folder belongs to another job, or a shard cannot be made.

    >>> build_index(passages, "pubmed-index", factory="IVF65536,PQ48,Refine(SQ8)", engine="ray")    # doctest: +SKIP
    """
    kind = parse_factory(factory)
    target = Path(out).expanduser().absolute()
    with prepared_folder(target):
        embeddings, chosen = embedded(
            passages,
            work_folder(target, work),
            encoder,
            engine=engine,
            ray_options=ray_options,
            shard_size=shard_size,
            on_duplicate=on_duplicate,
            identity=identity,
            show_progress=show_progress,
        )
        folder = embeddings.work.catalog.parent
        vectors = index_vectors(embeddings, kind, folder / "faiss", lists_on_disk=lists_on_disk)
        catalog = Catalog.open(embeddings.work.catalog)
        words = index_passages(catalog.passages(), chosen.config()) if lexical else None
        index = PassageIndex(Contents(vectors, catalog, kind, words), chosen)
        index.save(target)
    shutil.rmtree(folder, ignore_errors=True)
    return PassageIndex.load(target, encoder=chosen, verify="fast") if lists_on_disk else index


def work_folder(out: Path, work: str | os.PathLike[str] | None = None) -> Path:
    """Return where an index is prepared that shall be in ``out``."""
    return out.with_name(f"{out.name}.work") if work is None else Path(work).expanduser().absolute()


def embedded(
    passages: Iterable[PassageLike],
    folder: Path,
    encoder: Encoder | None,
    *,
    engine: Engine,
    ray_options: RayOptions | None,
    shard_size: int = SHARD_SIZE,
    on_duplicate: OnDuplicate,
    identity: str | None = None,
    show_progress: bool,
) -> tuple[Embeddings, Encoder]:
    """Write passages to a file in ``folder``; return their vectors, in shards, and the encoder that made them."""
    if engine not in ("local", "ray"):
        raise ValueError(f"engine={engine!r} is unknown. Choose 'local' or 'ray'.")
    path = stage_in_file(passages, folder, on_duplicate=on_duplicate, identity=identity)
    with closing(Catalog.open(path)) as catalog:
        count = len(catalog)
    if not count:
        shutil.rmtree(folder, ignore_errors=True)
        raise PassageIndexError("There are no passages to index: the collection is empty.")
    if encoder is None:
        from biorerank_plugins.first_stage.encoder import BiEncoder

        encoder = BiEncoder()
    work = Work(path, count, shard_size)
    shards = ShardFolder(folder / "embeddings", job_of(encoder, shard_size))
    with shards.working(), progress_bar(show_progress, total=count, desc="Embedding", unit=" passages") as progress:
        if engine == "local":
            encode_here(work, shards, encoder, progress.update)
        else:
            options = ray_options or RayOptions()
            with running_ray(options) as ray:
                encode_on_ray(ray, work, shards, encoder, options, progress.update)
        shards.finish(work.numbers)
    return Embeddings(work, shards), encoder


def stage_in_file(
    passages: Iterable[PassageLike], folder: Path, *, on_duplicate: OnDuplicate, identity: str | None = None
) -> Path:
    """Write passages to a catalog file in ``folder``, row 0, 1, 2, …; ids need no memory, however many there are.

    :param passages: read once, or not at all if a run that was stopped had written the same already.
    :param identity: what :func:`identity_of` says of the files that ``passages`` come from; ``None`` if nobody can say.
    """
    path, noted = folder / _PASSAGES, folder / _IDENTITY
    if identity is not None and path.exists() and noted.exists() and json.loads(noted.read_bytes()) == identity:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{TEMPORARY}{_PASSAGES}"
    unfinished.unlink(missing_ok=True)
    noted.unlink(missing_ok=True)
    with closing(Catalog.create(unfinished)) as catalog:
        fill(catalog, passages, on_duplicate=on_duplicate)
    os.replace(unfinished, path)
    if identity is not None:
        write_whole(noted, json.dumps(identity).encode())
    return path


def identity_of(paths: Sequence[Path], *settings: object) -> str:
    """Return a SHA-256 over names, sizes and times of files, those in folders too, and over how they are read."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
        for file in files:
            about = file.stat()
            digest.update(json.dumps([str(file.resolve()), about.st_size, about.st_mtime_ns]).encode())
    return digest.hexdigest()
