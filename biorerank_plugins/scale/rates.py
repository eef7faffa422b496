"""What this machine does in a second, measured in some seconds on passages and on vectors made for the purpose."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import faiss, parse_factory
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages
from biorerank_plugins.first_stage.lexical_file import write_lexical
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.vectors import FloatArray, VectorStore
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shards import embed_shard

HNSW_MEASURED = 4000
"""Vectors of the graph whose growth is timed."""

KINDS = {
    "Flat": "Flat",
    "HNSW32": "HNSW32",
    "HNSW32_SQ8": "HNSW32_SQ8",
    "IVF,Flat": "IVF{lists},Flat",
    "IVF,PQ": "IVF{lists},PQ{code}",
    "IVF,PQ,Refine(SQ8)": "IVF{lists},PQ{code},Refine(SQ8)",
}
"""Index types that are measured and planned, and their factory strings."""

_SAMPLE = 512
_CENTROIDS = 1024
_PIECES = 2000


@dataclass(frozen=True)
class Rates:
    """Measured sizes and rates.

    :param dimension: length of a vector.
    :param passages_per_second: embedded by the encoder.
    :param staged_per_second: passages read from memory and written to the catalog.
    :param catalog_bytes: of a passage, in the catalog.
    :param lexical_bytes: of a passage, in the lexical part.
    :param lexical_per_second: passages indexed by their words.
    :param distances_per_second: vectors compared with centroids, as k-means and IVF do.
    :param codes_per_second: vectors coded by PQ.
    :param graph_per_second: vectors added to an HNSW32 of :data:`HNSW_MEASURED`.
    :param bytes_per_vector: by index type, without what does not grow with the collection.
    """

    dimension: int
    passages_per_second: float
    staged_per_second: float
    catalog_bytes: float
    lexical_bytes: float
    lexical_per_second: float
    distances_per_second: float
    codes_per_second: float
    graph_per_second: float
    bytes_per_vector: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def sample_passages(paths: Sequence[Path] = (), count: int = _SAMPLE) -> list[Passage]:
    """Return passages to measure with: the first of these files, or the demo's."""
    from importlib import resources

    from biorerank_plugins.errors import ReaderError
    from biorerank_plugins.readers import ReadReport, find_beir, read_passages

    if not paths:
        with resources.as_file(resources.files("biorerank_plugins") / "demo") as folder:
            return list(islice(read_passages(find_beir(folder).corpus), count))
    report = ReadReport()
    found = list(islice((p for path in paths for p in read_passages(path, bad_lines="skip", report=report)), count))
    if not found:
        raise ReaderError("There are no passages to measure with.", str(paths[0]))
    return found


def code_bytes_for(dimension: int) -> int:
    """Return the bytes of a PQ code: one for eight numbers, or the next finer cut that divides the dimension."""
    return next(size for size in range(max(1, dimension // 8), dimension + 1) if dimension % size == 0)


def measure_rates(passages: Sequence[Passage], encoder: Encoder) -> Rates:
    """Measure sizes and rates on this machine, with as many threads as PyTorch and FAISS take here.

    :param passages: some of those that shall be indexed, or others of their length.
    :param encoder: what will embed them.
    """
    passages = list({passage.id: passage for passage in passages}.values())
    embed_shard(passages[:32], encoder)  # to warm up
    embedding, _ = _timed(lambda: embed_shard(passages, encoder))
    catalog_bytes, staging = _catalog(passages)

    def prepared() -> LexicalIndex:
        words = index_passages(enumerate(passages), encoder.config())
        words.prepare()
        return words

    prepared()  # twice, and the second one counts: the first one loads the stemmer
    analysing, words = _timed(prepared)
    dimension = encoder.dimension
    vectors = np.random.default_rng(5).standard_normal((HNSW_MEASURED, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances, codes = _quantisers(vectors)
    graph, _ = _timed(lambda: _grown("HNSW32", vectors))
    n = len(passages)
    return Rates(
        dimension=dimension,
        passages_per_second=n / embedding,
        staged_per_second=n / staging,
        catalog_bytes=catalog_bytes,
        lexical_bytes=_size(partial(write_lexical, words)) / n,
        lexical_per_second=n / analysing,
        distances_per_second=distances,
        codes_per_second=codes,
        graph_per_second=HNSW_MEASURED / graph,
        bytes_per_vector=_bytes_per_vector(vectors[:_PIECES]),
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return max(time.perf_counter() - start, 1e-9), result


def _catalog(passages: list[Passage]) -> tuple[float, float]:
    """Return bytes of a passage in a catalog file, and the seconds it took to write all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "passages.sqlite"
        with closing(Catalog.create(path)) as catalog:
            empty = path.stat().st_size
            seconds, _ = _timed(lambda: catalog.insert(enumerate(passages)))
        return (path.stat().st_size - empty) / len(passages), seconds


def _quantisers(vectors: FloatArray) -> tuple[float, float]:
    """Return comparisons with centroids a second, and vectors coded by PQ a second."""
    dimension = vectors.shape[1]
    coarse = faiss.IndexFlatIP(dimension)
    coarse.add(vectors[:_CENTROIDS])
    coarse.search(vectors[:64], 1)
    seconds, _ = _timed(lambda: coarse.search(vectors, 1))
    coder = faiss.ProductQuantizer(dimension, code_bytes_for(dimension), 8)
    coder.cp.min_points_per_centroid = 1
    coder.cp.niter = 2  # how well it codes does not matter here
    coder.train(vectors[:_PIECES])
    coding, _ = _timed(lambda: coder.compute_codes(vectors))
    return len(vectors) * min(_CENTROIDS, len(vectors)) / seconds, len(vectors) / coding


def _grown(factory: str, vectors: FloatArray) -> VectorStore:
    kind = parse_factory(factory)
    store = VectorStore.empty(kind, vectors.shape[1], vectors)
    rows = np.arange(len(vectors), dtype=np.int64)
    store.add(rows, [(rows, vectors)])
    return store


def _bytes_per_vector(vectors: FloatArray) -> dict[str, float]:
    """Return what another vector adds to the file of an index: that of twice as many, less that of these."""
    code = code_bytes_for(vectors.shape[1])
    half = len(vectors) // 2
    sizes = {}
    for name, factory in KINDS.items():
        store = _grown(factory.format(lists=8, code=code), vectors[:half])
        before = _size(store.write)
        rows = np.arange(half, 2 * half, dtype=np.int64)
        store.add(rows, [(rows, vectors[half : 2 * half])])
        sizes[name] = (_size(store.write) - before) / half
    return sizes


def _size(write: Callable[[BytesIO], object]) -> int:
    written = BytesIO()
    write(written)
    return len(written.getbuffer())
