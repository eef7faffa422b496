"""Measure index types past one machine's comfort, and what Ray costs.

    python -m benchmarks.speed.scale --index bioasq-index --questions questions.jsonl \\
        --out benchmarks/results/scale.json

recall@200 against exact search, bytes a vector, build rate and query time of every index type, on the vectors of a
saved Flat index (--index) and on synthetic vectors: drawn from clusters that were fitted to the real ones (k-means,
Gaussian around each centroid with the covariance of the real rests, length 1). The questions are real for both. Then
passages of the index are embedded by the plain path and on Ray; what each shard after the first takes counts,
start-up apart. Figures are written after each step; --figures also writes the few that ``biorerank index --plan``
shows.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, read_result, write_result

RESULT = "scale.json"
KEYS = ("threads", "faiss", "encoder", "ray", "real", "synthetic")

K = 200
CHUNK = 65_536


def log(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def real_vectors(index: Any) -> np.ndarray:
    """Return the vectors of a Flat index, in order of rows."""
    with index.reading() as contents:
        storage = contents.factory.flat_storage(contents.vectors._index)
        return storage.reconstruct_n(0, storage.ntotal)


def questions_of(path: str, encoder: Any, count: int) -> np.ndarray:
    from biorerank_plugins.readers import read_queries

    texts = [query.text for query in read_queries(path)]
    picked = np.random.default_rng(1).permutation(len(texts))[:count]
    return encoder.encode_queries([texts[place] for place in picked])


def synthetic_chunks(real: np.ndarray, count: int, clusters: int) -> Iterator[np.ndarray]:
    """Draw vectors from clusters that were fitted to real ones."""
    import faiss

    sample = real[np.random.default_rng(2).permutation(len(real))[:30_000]]
    fitted = faiss.Kmeans(real.shape[1], clusters, niter=8, seed=3, min_points_per_centroid=1)
    fitted.train(sample)
    _, nearest = fitted.index.search(sample, 1)
    rests = sample - fitted.centroids[nearest[:, 0]]
    scales, axes = np.linalg.eigh(np.cov(rests, rowvar=False))
    spread = (axes * np.sqrt(np.clip(scales, 0, None))).T.astype(np.float32)
    share = np.bincount(nearest[:, 0], minlength=clusters) / len(sample)
    random = np.random.default_rng(4)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        centres = fitted.centroids[random.choice(clusters, size=size, p=share)]
        drawn = centres + random.standard_normal((size, real.shape[1]), dtype=np.float32) @ spread
        yield drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


class Exact:
    """The true best rows, found chunk by chunk."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self.scores = np.full((len(queries), K), -np.inf, dtype=np.float32)
        self.rows = np.full((len(queries), K), -1, dtype=np.int64)

    def add(self, first: int, vectors: np.ndarray) -> None:
        scores = np.hstack([self.scores, self.queries @ vectors.T])
        rows = np.hstack(
            [self.rows, np.broadcast_to(np.arange(first, first + len(vectors)), (len(scores), len(vectors)))]
        )
        best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        self.scores = np.take_along_axis(scores, best, axis=1)
        self.rows = np.take_along_axis(rows, best, axis=1)


def write_shards(chunks: Iterator[np.ndarray], folder: Path, exact: Exact, count: int) -> Any:
    """Write vectors as embedding shards and find the true best rows on the way."""
    from biorerank_plugins.scale.shard_folder import ShardFolder
    from biorerank_plugins.scale.shards import Work
    from biorerank_plugins.scale.vectors import Embeddings

    dimension = exact.queries.shape[1]
    shards = ShardFolder(folder / "embeddings", {"dimension": dimension})
    first = 0
    for number, vectors in enumerate(chunks):
        shards.run(number, "made for a measurement", lambda part=vectors: {"embeddings": part})
        exact.add(first, vectors)
        first += len(vectors)
    return Embeddings(Work(folder / "passages.sqlite", count, CHUNK), shards)


def types_for(lists: int, dimension: int) -> list[tuple[str, str, bool]]:
    from biorerank_plugins.scale.rates import code_bytes_for

    code = code_bytes_for(dimension)
    return [
        ("Flat", "Flat", False),
        ("IVF,Flat", f"IVF{lists},Flat", False),
        ("IVF,Flat", f"IVF{lists},Flat", True),
        ("IVF,PQ", f"IVF{lists},PQ{code}", False),
        ("IVF,PQ", f"IVF{lists},PQ{code}", True),
        ("IVF,PQ,Refine(SQ8)", f"IVF{lists},PQ{code},Refine(SQ8)", False),
        ("HNSW32_SQ8", "HNSW32_SQ8", False),
        ("HNSW32", "HNSW32", False),
    ]


def measure_type(embeddings: Any, exact: Exact, factory: str, on_disk: bool, folder: Path) -> dict[str, Any]:
    """Build one index by way of shards, and search it one question at a time."""
    from biorerank_plugins.first_stage.factory import parse_factory
    from biorerank_plugins.scale.vectors import index_vectors

    start = time.perf_counter()
    store = index_vectors(embeddings, parse_factory(factory), folder, lists_on_disk=on_disk)
    seconds = time.perf_counter() - start
    written = _Counter()
    store.write(written)
    size = written.size + (store.lists_file.stat().st_size if store.lists_file else 0)
    store.search(exact.queries[:2], K)
    times, hits = [], []
    for query, wanted in zip(exact.queries, exact.rows, strict=True):
        start = time.perf_counter()
        found = store.search(query[np.newaxis], K)[0][1]
        times.append(time.perf_counter() - start)
        hits.append(len(np.intersect1d(found, wanted)) / K)
    return {
        "factory": factory,
        "lists_on_disk": on_disk,
        "vectors": len(store),
        "recall_at_200": round(float(np.mean(hits)), 4),
        "worst_recall_at_200": round(float(np.min(hits)), 4),
        "bytes_per_vector": round(size / len(store), 1),
        "build_seconds": round(seconds, 2),
        "vectors_per_second": round(len(store) / seconds, 1),
        "query_ms_median": round(1e3 * float(np.median(times)), 3),
        "query_ms_p95": round(1e3 * float(np.percentile(times, 95)), 3),
    }


class _Counter(BytesIO):
    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def measure_types(
    name: str,
    chunks: Iterator[np.ndarray],
    queries: np.ndarray,
    sizes: tuple[int, int, int],
    wanted: list[str] | None,
    save: Callable[[], None],
    into: dict[str, Any],
) -> None:
    """Measure all types, or those wanted; ``sizes``: number of vectors, of lists, and of vectors of an HNSW."""
    count, lists, hnsw = sizes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exact = Exact(queries)
        embeddings = write_shards(chunks, folder, exact, count)
        best = np.sort(exact.scores, axis=1)[:, ::-1]
        before = into.get(name, {}).get("types", [])
        into[name] = {
            "vectors": count,
            "questions": len(queries),
            "mean_cosine_at_rank": {str(rank): round(float(best[:, rank - 1].mean()), 4) for rank in (1, 10, 100, 200)},
            "types": [one for one in before if wanted and one["type"] not in wanted],
        }
        few, few_exact = embeddings, exact
        if hnsw < count:
            few, few_exact = first_rows(embeddings, queries, hnsw)
        for kind, factory, on_disk in types_for(lists, queries.shape[1]):
            if wanted and kind not in wanted:
                continue
            graph = factory.startswith("HNSW")
            used = (few, few_exact) if graph else (embeddings, exact)
            figures = {"type": kind, **measure_type(*used, factory, on_disk, folder / f"{kind} {on_disk}")}
            shutil.rmtree(folder / f"{kind} {on_disk}", ignore_errors=True)
            into[name]["types"].append(figures)
            log(f"{name}: {figures}")
            save()


def first_rows(embeddings: Any, queries: np.ndarray, count: int) -> tuple[Any, Exact]:
    """Return the first vectors alone: a graph of all takes hours where there are few processors."""
    from biorerank_plugins.scale.vectors import Embeddings

    part = Embeddings(embeddings.work, embeddings.shards, np.arange(count, dtype=np.int64))
    exact = Exact(queries)
    for _, rows, vectors in part.parts():
        exact.add(int(rows[0]), vectors)
    return part, exact


def measure_ray(passages: list[Any], shard_size: int, rounds: int) -> dict[str, Any]:
    """Embed shards by the plain path and on Ray, in turns; what a shard after the first takes counts, start-up apart.

    Of each engine the best round counts: whatever else runs on the machine makes a round slower, never faster.
    """
    import torch

    from biorerank_plugins.first_stage import BiEncoder
    from biorerank_plugins.scale.build import embedded
    from biorerank_plugins.scale.ray_engine import RayOptions, running_ray

    encoder = BiEncoder(device="cpu")
    options = RayOptions(cpus=2, device="cpu")

    def seconds(engine: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.time()
            embedded(
                passages,
                Path(folder) / "work",
                encoder,
                engine=engine,  # type: ignore[arg-type]
                ray_options=options,
                shard_size=shard_size,
                on_duplicate="error",
                identity=None,
                show_progress=False,
            )
            whole = time.time() - start
            written = sorted(file.stat().st_mtime for file in (Path(folder) / "work").glob("embeddings/0*"))
            steady = (written[-1] - written[0]) / (len(written) - 1)
            return {
                "whole": round(whole, 2),
                "first_shard": round(written[0] - start, 2),
                "next_shard": round(steady, 3),
            }

    encoder.encode_passages(passages[:64])
    measured: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    start = time.perf_counter()
    with running_ray(options):
        started = time.perf_counter() - start
        for _ in range(rounds):
            for engine, found in measured.items():
                found.append(seconds(engine))
                log(f"{engine}: {found[-1]}")
    best = {engine: min(one["next_shard"] for one in found) for engine, found in measured.items()}
    return {
        "passages": len(passages),
        "shard_size": shard_size,
        "threads": torch.get_num_threads(),
        "ray_start_seconds": round(started, 2),
        "seconds": measured,
        "passages_per_second": {engine: round(shard_size / one, 1) for engine, one in best.items()},
        "overhead": round(best["ray"] / best["local"] - 1, 4),
    }


def figures_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that ``biorerank index --plan`` shows."""
    recall: dict[str, dict[str, float]] = {}
    for name in ("real", "synthetic"):
        for one in result.get(name, {}).get("types", []):
            recall.setdefault(one["type"], {})[name] = one["recall_at_200"]
    about = [f"{one['vectors']:,} {name} vectors" for name, one in result.items() if name in ("real", "synthetic")]
    synthetic = result.get("synthetic", {"types": []})
    fewer = [
        f"{one['type']}: {one['vectors']:,}" for one in synthetic["types"] if one["vectors"] < synthetic["vectors"]
    ]
    fewer_vectors = f" ({', '.join(fewer)})" if fewer else ""
    vectors = f"{' and '.join(about)}{fewer_vectors}"
    source = f"recall@200 against exact search, measured by benchmarks/speed/scale.py on {vectors}."
    return {"source": source, "recall": recall}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--index", required=True, help="a saved Flat index")
    parser.add_argument("--questions", required=True, help="a file of questions")
    parser.add_argument("--n-questions", type=int, default=200)
    parser.add_argument("--synthetic", type=int, default=1_000_000, help="number of synthetic vectors; 0 for none")
    parser.add_argument("--clusters", type=int, default=1024)
    parser.add_argument("--lists", type=int, help="lists of the IVF over synthetic vectors")
    parser.add_argument("--hnsw", type=int, default=1_000_000, help="synthetic vectors of an HNSW at most")
    parser.add_argument("--types", nargs="+", help="only these, such as HNSW32_SQ8; those in the file stay")
    parser.add_argument("--ray-passages", type=int, default=5 * 1024, help="0 for none")
    parser.add_argument("--ray-shard", type=int, default=1024)
    parser.add_argument("--ray-rounds", type=int, default=2)
    parser.add_argument("--no-real", action="store_true", help="leave the real vectors out, as in the file there is")
    parser.add_argument("--out", type=Path, required=True, help="what is in it and not measured now stays")
    parser.add_argument("--figures", type=Path)
    args = parser.parse_args()

    import faiss

    from biorerank_plugins import PassageIndex
    from biorerank_plugins.scale.planning import lists_for

    result: dict[str, Any] = read_result(args.out)
    result |= {"threads": faiss.omp_get_max_threads(), "faiss": faiss.__version__}

    def save() -> None:
        write_result(args.out, result, KEYS)
        if args.figures is not None:
            args.figures.write_text(json.dumps(figures_of(result), indent=2) + "\n", encoding="utf-8")

    with PassageIndex.load(args.index, verify="fast") as index:
        real = real_vectors(index)
        queries = questions_of(args.questions, index.encoder, args.n_questions)
        result["encoder"] = index.encoder.model_id
        passages = list(islice(index.passages(), args.ray_passages))
    if passages:
        result["ray"] = measure_ray(passages, args.ray_shard, args.ray_rounds)
        save()
    if not args.no_real:
        chunks = (real[start : start + CHUNK] for start in range(0, len(real), CHUNK))
        sizes = (len(real), lists_for(len(real)), len(real))
        measure_types("real", chunks, queries, sizes, args.types, save, result)
    if args.synthetic:
        lists = args.lists or lists_for(args.synthetic)
        drawn = synthetic_chunks(real, args.synthetic, args.clusters)
        sizes = (args.synthetic, lists, args.hnsw)
        measure_types("synthetic", drawn, queries, sizes, args.types, save, result)
    save()


if __name__ == "__main__":
    main()
