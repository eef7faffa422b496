"""An index's contents between memory and folder: read, write, change as one transaction."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biorerank_plugins.errors import ModelError, PassageIndexError
from biorerank_plugins.first_stage import storage, verification
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.changes import Change
from biorerank_plugins.first_stage.factory import Factory, parse_factory
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages
from biorerank_plugins.first_stage.lexical_file import lexical_settings, read_lexical, write_lexical
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.vectors import RowArray, VectorStore, read_vectors

logger = logging.getLogger(__name__)

_CATALOG, _VECTORS = verification.FILES
_QUERY_SETTINGS = ("query_model", "query_prefix", "query_max_length", "model", "revision")


@dataclass
class Contents:
    """What an index holds, by row.

    :param lexical: ``None`` if there is no lexical part.
    :param version: name of the saved version it is, ``None`` if it lives in memory.
    """

    vectors: VectorStore
    catalog: Catalog
    factory: Factory
    lexical: LexicalIndex | None = None
    version: str | None = None


def read(folder: Path, encoder: Encoder | None, verify: Literal["full", "fast"]) -> tuple[Contents, Encoder]:
    """Read the current version of a saved index, and make the encoder it was built with unless one is given.

    :param verify: see :func:`verification.open_version`.
    """
    if verify not in ("full", "fast"):
        raise ValueError(f"verify={verify!r} is unknown. Choose 'full' or 'fast'.")
    while True:
        version = verification.open_version(folder, verify)
        try:
            chosen = _matching_encoder(version.manifest, encoder)
            return _read_version(version, chosen), chosen
        except (AttributeError, KeyError, MemoryError, OverflowError, TypeError, ValueError) as error:
            raise PassageIndexError(f"The manifest in {version.folder} is damaged: {error!r}.") from error
        except PassageIndexError:
            # A writer may have switched to a newer version and removed this one just now.
            if verification.current_name(folder) == version.folder.name:
                raise


def _read_version(version: verification.Version, encoder: Encoder) -> Contents:
    manifest = version.manifest
    if manifest["metric"] != "inner_product":
        raise PassageIndexError(f"The index has metric {manifest['metric']!r}; only 'inner_product' is known.")
    factory = parse_factory(manifest["factory"])
    catalog = Catalog.open(version.folder / _CATALOG)
    try:
        rows, dead = catalog.rows(), catalog.dead_rows()
        if len(rows) != manifest["count"]:
            raise PassageIndexError(f"The index holds {len(rows)} passages, its manifest says {manifest['count']}.")
        every = np.sort(np.concatenate([rows, dead]))
        lists = version.folder / verification.LISTS_FILE if manifest.get("lists_on_disk") else None
        path = version.folder / _VECTORS
        vectors = read_vectors(path, factory, manifest["dimension"], every, dead, lists_file=lists)
        words = _read_lexical(version, catalog, rows, encoder)
    except BaseException:
        catalog.close()
        raise
    return Contents(vectors, catalog, factory, words, version.folder.name)


def _read_lexical(
    version: verification.Version, catalog: Catalog, rows: RowArray, encoder: Encoder
) -> LexicalIndex | None:
    """Read the lexical part, or make it anew from the passages where the file is missing or of another release."""
    stored = version.manifest.get("lexical", {})
    if stored is None:
        return None
    if stored == lexical_settings():
        return read_lexical(version.folder / verification.LEXICAL_FILE, rows)
    logger.info("Building the lexical part of %s from its %d passages; save() keeps it.", version.folder, len(rows))
    return index_passages(catalog.passages(), encoder.config())


def _matching_encoder(manifest: dict[str, Any], encoder: Encoder | None) -> Encoder:
    about = manifest["encoder"]
    if encoder is None:
        from biorerank_plugins.first_stage.encoder import BiEncoder

        try:
            encoder = BiEncoder.from_config(about["config"])
        except ModelError as error:
            raise PassageIndexError(
                f"The index was built with the encoder {about['model_id']}, which cannot be loaded: {error} "
                "Pass it as encoder=…"
            ) from error
    if encoder.content_hash != about["content_hash"]:
        raise PassageIndexError(
            f"The index was built with another encoder: {about['model_id']} (SHA-256 {about['content_hash']:.12}…), "
            f"not {encoder.model_id} (SHA-256 {encoder.content_hash:.12}…). "
            "Pass the one it was built with, or build the index again."
        )
    if encoder.dimension != manifest["dimension"]:
        raise PassageIndexError(
            f"The index has vectors of {manifest['dimension']} dimensions, "
            f"{encoder.model_id} gives {encoder.dimension}."
        )
    for name, built_with in about["config"].items():
        here = encoder.config().get(name)
        if name not in _QUERY_SETTINGS and here != built_with:
            raise PassageIndexError(
                f"The index was built with an encoder with {name}={built_with!r}, this one has {name}={here!r}. "
                "Pass the same setting, or build the index again."
            )
    return encoder


def write(folder: Path, contents: Contents, encoder: Encoder, wanted: Change | None = None) -> Contents:
    """Save contents as the new version of a folder, and return them bound to the saved files.

    :param wanted: a change to be made on the way; ``contents`` are of no use afterwards.
    :raises PassageIndexError: if they cannot be saved; what was saved before is as it was.
    """
    with explained(folder), storage.prepared_folder(folder), storage.writer_lock(folder):
        return _committed(folder, contents, encoder, wanted)


def change(contents: Contents, encoder: Encoder, folder: Path | None, wanted: Change) -> None:
    """Change contents in place, in memory and in their folder, or leave both as they are; nobody searches meanwhile.

    :raises PassageIndexError: if the new version cannot be written, or the folder holds another one than ``contents``.
    """
    if folder is None:
        with contents.catalog.transaction():
            wanted.edit_catalog(contents.catalog)
            wanted.edit_vectors(contents.vectors)
        contents.lexical = wanted.lexical
        return
    with explained(folder), storage.writer_lock(folder):
        if verification.current_name(folder) != contents.version:
            raise PassageIndexError(
                f"The index in {folder} was changed by somebody else since it was loaded. Load it again."
            )
        try:
            changed = _committed(folder, contents, encoder, wanted)
        except BaseException:
            _replace(contents, _read_version(verification.open_version(folder, "fast"), encoder))
            raise
        _replace(contents, changed)


def _replace(contents: Contents, fresh: Contents) -> None:
    contents.catalog.close()
    contents.vectors, contents.catalog = fresh.vectors, fresh.catalog
    contents.lexical, contents.version = fresh.lexical, fresh.version


def _committed(folder: Path, contents: Contents, encoder: Encoder, wanted: Change | None) -> Contents:
    """Write a new version; the passages change in its file only."""
    if wanted is not None:
        wanted.edit_vectors(contents.vectors)
        contents = replace(contents, lexical=wanted.lexical)

    def write_files(target: Path) -> None:
        contents.catalog.copy_to(target / _CATALOG)
        with closing(Catalog.open(target / _CATALOG, writable=True)) as catalog:
            if wanted is not None:
                wanted.edit_catalog(catalog)
            catalog.set_dead_rows(contents.vectors.dead_rows.tolist())
        with (target / _VECTORS).open("wb") as file:
            contents.vectors.write(file)
        if contents.vectors.lists_file is not None:
            shutil.copyfile(contents.vectors.lists_file, target / verification.LISTS_FILE)
        if contents.lexical is not None:
            with (target / verification.LEXICAL_FILE).open("wb") as file:
                write_lexical(contents.lexical, file)

    about = {
        "encoder": {"model_id": encoder.model_id, "content_hash": encoder.content_hash, "config": encoder.config()},
        "dimension": contents.vectors.dimension,
        "metric": "inner_product",
        "factory": contents.factory.text,
        "lists_on_disk": contents.vectors.lists_file is not None,
        "count": len(contents.vectors),
        "lexical": None if contents.lexical is None else lexical_settings(),
    }
    version = storage.commit_version(folder, write_files, about)
    return replace(contents, catalog=Catalog.open(folder / version / _CATALOG), version=version)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say of what goes wrong while an index is written that what was there before still is."""
    try:
        yield
    except (OSError, sqlite3.Error, RuntimeError) as error:  # FAISS raises RuntimeError
        raise PassageIndexError(
            f"The index could not be written to {folder}: {error}. What was saved there before is unchanged."
        ) from error
