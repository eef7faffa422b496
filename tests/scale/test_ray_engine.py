"""Ray builds the index that one machine builds; in processes of its own, since Ray leaves threads and files open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import DEMO

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.scale import EmbeddedShard, ShardFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
]


def biorerank(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name != "LD_PRELOAD"
    }  # Ray brings its allocator
    command = [sys.executable, "-m", "biorerank_plugins.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)


def demo_passages() -> list[dict]:
    return [json.loads(line) for line in (DEMO / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]


def parquet_of(records: list[dict], path: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {name: [record.get(name) for record in records] for name in ("_id", "title", "text")}
    columns["metadata"] = [json.dumps(record.get("metadata", {})) for record in records]
    pq.write_table(pa.table(columns), path)
    return path


def test_the_same_ids_and_the_same_best_as_on_one_machine(tmp_path: Path):
    records = demo_passages()
    half = len(records) // 2
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records[:half]))
    second = parquet_of(records[half:], tmp_path / "b.parquet")
    options = ["--out", tmp_path / "ray", "--engine", "ray", "--json", "--device", "cpu", "--dtype", "float32"]
    done = biorerank("index", tmp_path / "a.jsonl", second, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passages"] == len(records)
    assert not (tmp_path / "ray.work").exists()
    encoder = BiEncoder(device="cpu", dtype="float32")
    with PassageIndex.load(tmp_path / "ray", encoder=encoder) as ray:
        passages = [Passage(r["_id"], r["text"], r.get("title")) for r in records]
        plain = PassageIndex.build(passages, encoder=encoder)
        assert [p.id for p in ray.passages()] == [p.id for p in plain.passages()]
        queries = [json.loads(line)["text"] for line in (DEMO / "queries.jsonl").read_text().splitlines()]
        for first_stage in ("dense", "hybrid"):
            ours, theirs = (one.search_many(queries, 20, first_stage=first_stage) for one in (ray, plain))
            for a, b in zip(ours, theirs, strict=True):
                assert [one.passage.id for one in a] == [one.passage.id for one in b]
                assert [one.score for one in a] == pytest.approx([one.score for one in b], abs=1e-5)


def test_a_file_that_cannot_be_read_is_one_line_and_leaves_no_index(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"_id": "1", "text": "fine"}\n{"_id": \n')
    done = biorerank("index", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--engine", "ray")
    assert done.returncode == 1
    assert "a.jsonl:2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


CHILD = """
import json, sys
from pathlib import Path
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.readers import read_passages
from biorerank_plugins.scale.build import embedded
from biorerank_plugins.scale.ray_engine import RayOptions

passages = read_passages(Path(sys.argv[1]))
options = RayOptions(cpus=2, device="cpu", dtype="float32")
encoder = BiEncoder(device="cpu", dtype="float32")
embedded(passages, Path(sys.argv[2]), encoder, engine="ray", ray_options=options, shard_size=16,
         on_duplicate="error", identity=None, show_progress=False)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, "-c", CHILD, str(DEMO / "corpus.jsonl"), str(tmp_path / "out")]
    shards = tmp_path / "out" / "embeddings"
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 200
        while not list(shards.glob("0*.safetensors")):
            assert child.poll() is None, "the child ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    time.sleep(3)  # what an encoder of the killed run had begun is written by now
    there = {path: path.stat().st_mtime_ns for path in shards.glob("0*.safetensors")}
    total = -(-len(demo_passages()) // 16)
    assert 1 <= len(there) < total
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    after = {path: path.stat().st_mtime_ns for path in shards.glob("0*.safetensors")}
    assert len(after) == total
    assert {path: after[path] for path in there} == there  # not written again
    folder = ShardFolder(shards, json.loads((shards / "manifest.json").read_text())["job"])
    ids = [id_ for number in folder.numbers() for id_ in EmbeddedShard.from_arrays(folder.load(number)).ids]
    assert ids == [one["_id"] for one in demo_passages()]
