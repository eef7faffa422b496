"""The lexical part of an index as a file: NumPy arrays, nothing pickled, checked before they are used."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import analysis, definitions
from biorerank_plugins.first_stage.lexical import K1, B, LexicalIndex
from biorerank_plugins.first_stage.vectors import RowArray

# What NumPy and zipfile meet in a damaged archive; RuntimeError: a method or version that zipfile does not know.
_DAMAGED = (
    EOFError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError, lzma.LZMAError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_KINDS = {"rows": "i8", "tokens": "i4", "offsets": "i8", "terms": "u1", "data": "f4", "indices": "i4", "indptr": "i8"}
_ALL_KINDS = {**_KINDS, **definitions.KINDS}


def lexical_settings() -> dict[str, Any]:
    """Return what a saved lexical part depends on besides the passages, as JSON types."""
    versions = {"analysis": analysis.ANALYSIS_VERSION, "stemmer": analysis.stemmer_version()}
    return {"method": "bm25", "k1": K1, "b": B, **versions}


def write_lexical(index: LexicalIndex, file: BinaryIO) -> None:
    """Write what :func:`read_lexical` reads."""
    np.savez(file, allow_pickle=False, **index.to_arrays())


def read_lexical(path: Path, rows: RowArray) -> LexicalIndex:
    """Read a lexical part, which must be that of these rows.

    :raises PassageIndexError: if it cannot be read or holds something else.
    """
    try:
        # NumPy leaves a file that it opened itself open when it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            earlier = definitions.KINDS.keys().isdisjoint(archive.files)
            arrays = {name: archive[name] for name in (_KINDS if earlier else _ALL_KINDS)}
        if _fits(arrays, rows):
            return LexicalIndex.from_arrays(arrays)
    except _DAMAGED as error:
        raise PassageIndexError(f"{path.name} cannot be read: {error}") from error
    raise PassageIndexError(f"{path.name} does not fit the passages of the index. Build the index again.")


def _fits(arrays: Mapping[str, np.ndarray[Any, Any]], rows: RowArray) -> bool:
    if any(array.dtype != np.dtype(_ALL_KINDS[name]) or array.ndim != 1 for name, array in arrays.items()):
        return False
    n_terms = int(np.count_nonzero(arrays["terms"] == ord("\n"))) + 1 if len(arrays["terms"]) else 0
    return (
        np.array_equal(arrays["rows"], rows)
        and _parts(arrays["offsets"], len(rows), len(arrays["tokens"]))
        and _parts(arrays["indptr"], n_terms, len(arrays["data"]))
        and len(arrays["data"]) == len(arrays["indices"])
        and _below(arrays["tokens"], n_terms)
        and _below(arrays["indices"], len(rows))
        and bool(np.isfinite(arrays["data"]).all())
    )


def _parts(bounds: RowArray, n_parts: int, total: int) -> bool:
    """Return whether these bounds cut ``total`` things into ``n_parts`` parts."""
    if len(bounds) != n_parts + 1 or bounds[0] != 0 or bounds[-1] != total:
        return False
    return bool((np.diff(bounds) >= 0).all())


def _below(numbers: np.ndarray[Any, Any], limit: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < limit)
