"""Forked processes go on scoring on a CPU, whatever their parent was doing; copies are rerankers of their own."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import pytest
from support.fresh import run_fresh

from biorerank_plugins import BioReranker
from biorerank_plugins._common.forks import Lock, renew_in_child, why_not_here

QUERY, TEXTS = "is p53 a tumour suppressor", [f"p53 suppresses tumours {'and cells ' * n}" for n in range(30)]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

_SCRIPT = """
import asyncio, os, signal, sys, threading, time
import torch
from biorerank_plugins import BioReranker
QUERY, TEXTS = "is p53 a tumour suppressor", [f"p53 suppresses tumours {'and cells ' * n}" for n in range(30)]
def make(backend="auto"):
    return BioReranker(sys.argv[1], device="cpu", dtype="float32", backend=backend, cache_bytes=0)
def assert_in_child(is_right, *about):
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if is_right() else 1)
    status = os.waitpid(child, 0)[1]
    assert status == 0, (*about, status)
"""


def _run(body: str, *arguments: object) -> None:
    """In a process of its own: forking one that runs threads is what is tested."""
    done = run_fresh(_SCRIPT + body, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_fork
def test_children_of_a_busy_parent_score_as_it_does(tiny_cross_encoder_dir):
    """Forked while three threads score: locks are taken, and threads of the libraries below are at work."""
    backends = ["packed", "torch"]
    _run(
        """
torch.set_num_threads(2)
def check(backend):
    reranker = make(backend)
    before = reranker.score(QUERY, TEXTS)
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            reranker.rank(QUERY, TEXTS)
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(8):
        time.sleep(0.02 * number)
        child = os.fork()
        if not child:
            signal.alarm(60)
            same = reranker.score(QUERY, TEXTS) == before
            found = asyncio.run(reranker.arank(QUERY, TEXTS))
            reranker.close()
            os._exit(0 if same and len(found) == len(TEXTS) else 1)
        codes.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8, (backend, codes)
    assert reranker.score(QUERY, TEXTS) == before, backend
    reranker.close()
for backend in sys.argv[2:]:
    check(backend)
""",
        tiny_cross_encoder_dir,
        *backends,
    )


@needs_fork
def test_a_child_loads_a_model_after_its_parent_computed(tiny_cross_encoder_dir):
    """In the thread that forked, OpenMP would wait for helpers that are gone."""
    _run(
        """
from sentence_transformers import CrossEncoder
torch.set_num_threads(2)
torch.randn(2000, 2000) @ torch.randn(2000, 2000)
torch.randn(2_000_000).sigmoid()
BioReranker(sys.argv[1], device="cpu").score(QUERY, TEXTS)
def by_tokens():
    return BioReranker(sys.argv[1], device="cpu", dtype="float32", max_length=100)
def by_predict():
    return BioReranker(CrossEncoder(sys.argv[1], device="cpu", prompts={"m": "a "}, default_prompt_name="m"))
for fresh in (by_tokens, by_predict):
    reranker = fresh()
    expected = fresh().score(QUERY, TEXTS)
    def is_near():
        found = reranker.score(QUERY, TEXTS)
        return max(abs(one - other) for one, other in zip(found, expected)) < 1e-5
    assert_in_child(is_near, fresh)
""",
        tiny_cross_encoder_dir,
    )


@needs_fork
@pytest.mark.parametrize("route", ["tokens", "sentence-transformers"])
def test_children_embed_as_their_parent_does(tiny_encoder_dir, tmp_path, route):
    """A child that waits for the parent's threads is ended by its alarm."""
    folder = tiny_encoder_dir
    if route == "sentence-transformers":  # a setting of the folder that only that library knows
        folder = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
        kept = {key: value for key, value in pooling.items() if not key.startswith("pooling_mode")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({**kept, "pooling_mode": "mean_sqrt_len_tokens"}))
    _run(
        """
from biorerank_plugins import BiEncoder
torch.set_num_threads(2)
torch.randn(2000, 2000) @ torch.randn(2000, 2000)
torch.randn(2_000_000).sigmoid()
encoder = BiEncoder(sys.argv[1], device="cpu", dtype="float32")
before = encoder.encode_queries(TEXTS)
for workers in (0, 3):  # a quiet parent, then a busy one
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            encoder.encode_queries(TEXTS)
    threads = [threading.Thread(target=busy) for _ in range(workers)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(4):
        time.sleep(0.02 * number)
        child = os.fork()
        if not child:
            signal.alarm(60)
            same = bool((encoder.encode_queries(TEXTS) == before).all())
            if not workers:  # and one that is loaded in the child
                again = BiEncoder(sys.argv[1], device="cpu", dtype="float32").encode_queries(TEXTS)
                same = same and bool((again == before).all())
            os._exit(0 if same else 1)
        codes.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4, (workers, codes)
""",
        folder,
    )


@needs_fork
def test_what_asks_in_threads_of_its_own_goes_on_in_a_child(tiny_cross_encoder_dir, tiny_encoder_dir, tmp_path):
    """Shards, the server's engine and LlamaIndex's embedding had their threads in the parent already."""
    _run(
        """
from biorerank_plugins import BiEncoder
from biorerank_plugins.llama_index import BioEmbedding
from biorerank_plugins.scale import ShardedIndex
from biorerank_plugins.serve import Engine
encoder = BiEncoder(sys.argv[2], device="cpu", dtype="float32")
ShardedIndex.build(TEXTS, sys.argv[3], shards=2, encoder=encoder)
index = ShardedIndex.load(sys.argv[3], encoder=encoder)
engine = Engine(make())
engine.start()
embedding = BioEmbedding(sys.argv[2], device="cpu", dtype="float32")
def searched():
    return [(one.passage.id, one.score) for one in index.search(QUERY, 5)]
def counted():
    return asyncio.run(engine.rank(QUERY, TEXTS, count_tokens=True))[1]
def embedded():
    return asyncio.run(embedding.aget_text_embedding(QUERY))
for what in (searched, counted, embedded):
    before = what()
    assert_in_child(lambda: what() == before, what)
    assert what() == before
""",
        tiny_cross_encoder_dir,
        tiny_encoder_dir,
        tmp_path / "shards",
    )


@needs_fork
def test_a_child_searches_many_questions_at_once_as_its_parent_did(tiny_encoder_dir):
    """FAISS computes with OpenMP, as torch does, and in the thread that forked its helpers are gone."""
    _run(
        """
import faiss
from biorerank_plugins import BiEncoder, PassageIndex
faiss.omp_set_num_threads(2)
encoder = BiEncoder(sys.argv[1], device="cpu", dtype="float32")
for factory in ("Flat", "HNSW8"):
    index = PassageIndex.build(TEXTS, encoder=encoder, factory=factory)
    def searched():
        found = index.search_many([QUERY, *TEXTS], 5, first_stage="dense")
        return [[one.passage.id for one in candidates] for candidates in found]
    before = searched()
    assert_in_child(lambda: searched() == before, factory)
""",
        tiny_encoder_dir,
    )


@needs_fork
def test_a_child_loads_a_model_that_its_parent_was_loading(tiny_cross_encoder_dir):
    """The lock that is held while a model is loaded is free in the child."""
    _run(
        """
class Slow(os.PathLike):
    def __fspath__(self):
        time.sleep(0.5)
        return sys.argv[1]
reranker = BioReranker(Slow(), device="cpu", dtype="float32")
expected = make().score(QUERY, TEXTS)
thread = threading.Thread(target=reranker.warm_up)
thread.start()
time.sleep(0.3)
assert reranker._scorer is None
def is_same():
    found = reranker.score(QUERY, TEXTS)
    print(max(abs(one - other) for one, other in zip(found, expected)), flush=True)
    return found == expected
assert_in_child(is_same)
thread.join()
assert reranker.score(QUERY, TEXTS) == expected
""",
        tiny_cross_encoder_dir,
    )


def test_a_copy_is_a_reranker_of_its_own(tiny_cross_encoder_dir: Path):
    options = {"windows": False, "query_prefix": "p53 ", "max_length": 64, "cache_bytes": 10_000, "max_waiting": 50}
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", **options)
    expected = reranker.score(QUERY, TEXTS)
    for made in (pickle.loads(pickle.dumps(reranker)), copy.deepcopy(reranker), copy.copy(reranker)):
        with made:
            assert made.score(QUERY, TEXTS) == expected
            assert made.cache_info().max_bytes == 10_000
            assert made.cache_info().misses == len(TEXTS)
    assert reranker.score(QUERY, TEXTS) == expected
    reranker.close()
    with pickle.loads(pickle.dumps(reranker)) as made:  # closed is what it is, not what it was made with
        assert made.score(QUERY, TEXTS) == expected


@pytest.mark.parametrize(
    ("device", "loaded_in", "lost", "fine"),
    [
        ("cpu", 1, False, True),
        ("cpu", 2, True, True),
        ("cuda", 2, False, True),
        ("cuda", 1, False, False),  # loaded before the fork
        ("cuda", 2, True, False),  # the parent used CUDA
        ("mps", 1, False, False),
        ("mps", 2, True, True),
    ],
)
def test_a_gpu_is_refused_in_a_forked_child_with_a_way_out(device, loaded_in, lost, fine):
    reason = why_not_here(device, loaded_in=loaded_in, here=2, cuda_is_lost=lost)
    assert (reason is None) == fine
    if reason is not None:
        assert device in reason
        assert "spawn" in reason
        assert "device='cpu'" in reason


@needs_fork
def test_a_lock_is_free_in_a_child():
    class Told:
        times = 0

        def renew(self) -> None:
            self.times += 1

    lock, told, held, go_on = Lock(), Told(), threading.Event(), threading.Event()
    renew_in_child(told)

    def hold() -> None:
        with lock:
            held.set()
            go_on.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork() if sys.version_info < (3, 12) else _quiet_fork()
    if not child:
        os._exit(0 if lock.acquire(timeout=5) and told.times == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not lock.acquire(timeout=0)
    assert told.times == 0
    go_on.set()
    thread.join()


def _quiet_fork() -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        return os.fork()
