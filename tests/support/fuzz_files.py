"""Fuzz targets that are files we saved ourselves: indexes, model folders."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import ModelError, PassageIndexError, ShardError
from support.spoil import Target, as_json, spoil_bytes, spoil_tree


def _saved_index(folder: Path) -> Path:
    from biorerank_plugins.first_stage import PassageIndex
    from support.first_stage import WordEncoder, collection

    with PassageIndex.build(collection(12), encoder=WordEncoder(), factory="HNSW8") as index:
        index.save(folder)
    return folder / json.loads((folder / "CURRENT").read_text())["version"]


def _seal(version: Path, manifest: bytes) -> None:
    """Let CURRENT vouch for a manifest, as somebody does who means harm."""
    (version / "manifest.json").write_bytes(manifest)
    current = {"version": version.name, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    (version.parent / "CURRENT").write_text(json.dumps(current))


def _use(folder: Path) -> None:
    from biorerank_plugins.first_stage import PassageIndex
    from support.first_stage import WordEncoder

    with PassageIndex.load(folder, encoder=WordEncoder()) as index:
        for stage in ("dense", "lexical") if index.lexical else ("dense",):
            index.search("w1 w2", k=5, filters={"year": {">": 2003}}, first_stage=stage)
        list(index.passages())


def limit_faiss() -> None:
    """Let FAISS refuse what asks for more than 64 MiB: by itself it allocates whatever a few bytes say, even 16 GiB.

    The limit is one for the whole process, so it is for applications (and tests) to set, not for a library.
    """
    import faiss

    faiss.set_deserialization_vector_byte_limit(1 << 26)


def index_targets(scratch: Path) -> dict[str, Target]:
    limit_faiss()
    version = _saved_index(scratch / "index")
    good = (version / "manifest.json").read_bytes()
    current = (version.parent / "CURRENT").read_bytes()
    files = {name: (version / name).read_bytes() for name in ("vectors.faiss", "passages.sqlite", "lexical.npz")}

    def manifest(given: Any) -> None:
        _seal(version, given if isinstance(given, bytes) else as_json(given))
        _use(version.parent)

    def pointer(given: bytes) -> None:
        _seal(version, good)
        (version.parent / "CURRENT").write_bytes(given)
        _use(version.parent)

    def contents(name: str) -> Callable[[bytes], None]:
        def run(given: bytes) -> None:
            about = json.loads(good)
            about["files"][name] = {"size": len(given), "sha256": hashlib.sha256(given).hexdigest()}
            try:
                (version / name).write_bytes(given)
                _seal(version, json.dumps(about).encode())
                _use(version.parent)
            finally:
                (version / name).write_bytes(files[name])

        return run

    refused = (PassageIndexError,)
    made = {f"index {name}": Target(contents(name), refused, (raw,), spoil_bytes) for name, raw in files.items()}
    made["manifest"] = Target(manifest, refused, (json.loads(good),), spoil_tree)
    made["manifest bytes"] = Target(manifest, refused, (good,), spoil_bytes)
    made["CURRENT"] = Target(pointer, refused, (current,), spoil_bytes)
    return made


def shard_targets(scratch: Path) -> dict[str, Target]:
    """The list of a sharded index's shards, and a folder of embedded ones."""
    import numpy as np

    from biorerank_plugins.scale import ShardedIndex, ShardFolder
    from support.first_stage import WordEncoder, collection

    ShardedIndex.build(collection(12), scratch / "sharded", shards=2, encoder=WordEncoder()).close()
    layout = scratch / "sharded" / "shards.json"
    job = {"model": "m", "size": 3}
    shards = ShardFolder(scratch / "shards", job)
    shards.run(0, "input", lambda: {"embeddings": np.ones((3, 2), np.float32), "ids": np.arange(3)})
    shards.finish(range(1))
    manifest, arrays = scratch / "shards" / "manifest.json", shards.path(0)

    def load(given: Any) -> None:
        layout.write_bytes(given if isinstance(given, bytes) else as_json(given))
        ShardedIndex.load(layout.parent, encoder=WordEncoder(), on_lost="partial").close()

    def use(path: Path) -> Callable[[Any], None]:
        good = path.read_bytes()

        def run(given: Any) -> None:
            path.write_bytes(given if isinstance(given, bytes) else as_json(given))
            try:
                opened = ShardFolder(path.parent, job)
                opened.done(0, "input")
                opened.load(0)
            finally:
                path.write_bytes(good)

        return run

    about, raw = json.loads(manifest.read_bytes()), layout.read_bytes()
    return {
        "shards.json": Target(load, (PassageIndexError,), (json.loads(raw),), spoil_tree),
        "shards.json bytes": Target(load, (PassageIndexError,), (raw,), spoil_bytes),
        "manifest of shards": Target(use(manifest), (ShardError,), (about,), spoil_tree),
        "shard": Target(use(arrays), (ShardError,), (arrays.read_bytes(),), spoil_bytes),
    }


def model_targets(scratch: Path, encoder: Path) -> dict[str, Target]:
    """What we read of a model folder ourselves, before any library sees it."""
    from biorerank_plugins.first_stage.model_folder import read_settings
    from biorerank_plugins.models import stored as settings
    from biorerank_plugins.runtime.plain_folder import is_plain

    folder = scratch / "model"
    shutil.copytree(encoder, folder)
    names = ("config.json", "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json")
    good = {name: (folder / name).read_bytes() for name in names}
    stored = {
        "fusion": {"a": 0.3}, "calibration": {"slope": 0.8, "intercept": -2.1}, "template": "{title}. {text}",
        "hybrid": {"method": "weighted", "lexical_weight": 0.3},
    }  # fmt: skip

    def encoder_folder(given: tuple[str, Any]) -> None:
        name, content = given
        try:
            (folder / name).write_bytes(content if isinstance(content, bytes) else as_json(content))
            is_plain(folder)
            read_settings(folder)
        finally:
            (folder / name).write_bytes(good[name])

    def our_file(given: Any) -> None:
        raw = given if isinstance(given, bytes) else as_json(given)
        (folder / settings.SETTINGS_FILE).write_bytes(raw)
        stored = settings.StoredValues(folder)
        _ = stored.fusion, stored.calibration
        settings.stored_template(folder)

    def spoil(named: tuple[str, bytes], chance: random.Random) -> tuple[str, Any]:
        name, raw = named
        return name, spoil_bytes(raw, chance) if chance.random() < 0.3 else spoil_tree(json.loads(raw), chance)

    return {
        "model folder": Target(encoder_folder, (ModelError,), tuple(good.items()), spoil),
        "biorerank.json": Target(our_file, (ModelError,), (stored,), spoil_tree),
        "biorerank.json bytes": Target(our_file, (ModelError,), (json.dumps(stored).encode(),), spoil_bytes),
    }
