"""The engine-free core: pure functions, shards that are whole or absent, and never made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import TESTS
from support.first_stage import WordEncoder, collection
from support.fresh import run_fresh
from support.scorers import shared_words

from biorerank_plugins.errors import ScoringError, ShardError
from biorerank_plugins.scale import EmbeddedShard, ShardFolder, embed_shard, score_shard
from biorerank_plugins.scale.shards import fingerprint


def test_an_embedded_shard_has_the_vectors_of_each_passage_alone_and_survives_its_arrays():
    passages, encoder = collection(30), WordEncoder()
    shard = embed_shard(passages, encoder, batch_size=7)
    assert shard.ids == tuple(passage.id for passage in passages)
    assert np.array_equal(shard.embeddings, np.stack([encoder.vector(passage.text) for passage in passages]))
    again = EmbeddedShard.from_arrays(shard.to_arrays())
    assert again.ids == shard.ids
    assert np.array_equal(again.embeddings, shard.embeddings)


def test_pairs_are_scored_in_order_and_neighbours_of_a_query_together():
    scorer = shared_words()
    logits = score_shard([("a b", "a"), ("a b", "b a"), ("c", "c"), ("a b", "z")], scorer)
    assert logits.tolist() == [1, 2, 1, 0]
    assert [(call.query, len(call.texts)) for call in scorer.calls] == [("a b", 2), ("c", 1), ("a b", 1)]
    assert score_shard([], scorer).shape == (0,)


@pytest.mark.parametrize("answer", [[1.0], [1.0, float("nan")]])
def test_a_scorer_that_answers_wrongly_is_refused(answer):
    class Wrong:
        def logits(self, query, texts):
            return answer

    with pytest.raises(ScoringError, match=r"shape|not finite"):
        score_shard([("q", "a"), ("q", "b")], Wrong())


def test_a_shard_is_made_once_and_again_when_it_is_damaged(tmp_path: Path):
    folder = ShardFolder(tmp_path / "w", {"model": "m"})
    made: list[int] = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"logits": np.arange(3, dtype=np.float32)}

    first = folder.run(4, "input", make)
    assert folder.run(4, "input", make) == first == ShardFolder(tmp_path / "w", {"model": "m"}).done(4)
    assert (len(made), first.count) == (1, 3)
    content = bytearray(folder.path(4).read_bytes())
    content[-1] ^= 1  # one bit of the last number
    folder.path(4).write_bytes(content)
    assert folder.done(4) is None
    with pytest.raises(ShardError, match="missing or damaged"):
        folder.load(4)
    folder.run(4, "input", make)
    assert folder.load(4)["logits"].tolist() == [0, 1, 2]
    assert len(made) == 2


def test_shards_of_another_job_or_another_input_are_not_mixed(tmp_path: Path):
    folder = ShardFolder(tmp_path / "w", {"model": "m", "size": 2})
    folder.run(0, "input", lambda: {"logits": np.zeros(2, np.float32)})
    with pytest.raises(ShardError, match="differs in: model"):
        ShardFolder(tmp_path / "w", {"model": "other", "size": 2})
    with pytest.raises(ShardError, match="another input"):
        folder.run(0, "other input", lambda: {"logits": np.zeros(2, np.float32)})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    with pytest.raises(ShardError, match=r"letter\.txt"):
        ShardFolder(tmp_path / "foreign", {})


def test_one_run_at_a_time_and_leftovers_go(tmp_path: Path):
    folder = ShardFolder(tmp_path, {})
    (tmp_path / ".unfinished-x").write_bytes(b"half")
    with folder.working():
        assert not (tmp_path / ".unfinished-x").exists()
        with pytest.raises(ShardError, match="at work"), ShardFolder(tmp_path, {}).working():
            pass


def test_the_manifest_lists_checksums_of_all_shards_and_misses_none(tmp_path: Path):
    folder = ShardFolder(tmp_path, {"model": "m"})
    records = [folder.run(n, f"i{n}", lambda n=n: {"logits": np.full(2, n, np.float32)}) for n in range(3)]
    assert folder.finish(range(3)) == records
    listed = json.loads((tmp_path / "manifest.json").read_text())["shards"]
    assert [one["sha256"] for one in listed.values()] == [record.sha256 for record in records]
    folder.path(1).unlink()
    with pytest.raises(ShardError, match="1 shards are missing"):
        folder.finish(range(3))


def test_a_fingerprint_changes_with_whatever_a_model_may_read():
    passages = collection(3)
    other = [*passages[:2], collection(4)[3]]
    assert fingerprint(passages) == fingerprint(collection(3)) != fingerprint(other)
    assert fingerprint([("q", "ab")]) != fingerprint([("qa", "b")])


CHILD = """
import sys, time
import numpy as np
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.first_stage import WordEncoder, collection
from biorerank_plugins.scale.build import embedded

class Slow(WordEncoder):
    def encode_passages(self, passages):
        with open(sys.argv[2], "a") as log:
            log.write(passages[0].id + "\\n")
        time.sleep(float(sys.argv[3]))
        return super().encode_passages(passages)

embedded(collection(200), Path(sys.argv[1]), Slow(), engine="local", ray_options=None, shard_size=10,
         on_duplicate="error", identity="same", show_progress=False)
"""


def test_a_killed_run_goes_on_and_makes_no_shard_twice(tmp_path: Path):
    """SIGKILL at any moment: what is there is whole, and the next run embeds only what is missing."""
    work, log = tmp_path / "work", tmp_path / "log"
    code = CHILD.format(tests=str(TESTS))
    child = subprocess.Popen([sys.executable, "-c", code, str(work), str(log), "0.1"])
    try:
        deadline = time.monotonic() + 120
        while len(list((work / "embeddings").glob("0*.safetensors"))) < 5:
            assert child.poll() is None, "the child ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    before = {path.name: path.stat().st_mtime_ns for path in (work / "embeddings").glob("0*.safetensors")}
    assert 5 <= len(before) < 20
    encoded_before = log.read_text().split()
    again = run_fresh(code, work, log, 0.0)
    assert again.returncode == 0, again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in (work / "embeddings").glob("0*.safetensors")}
    assert len(after) == 20
    assert {name: after[name] for name in before} == before  # not written again
    twice = len(encoded_before) + 20 - len(before)
    encoded = log.read_text().split()
    assert len(encoded) == twice <= 21  # only the shard that was under way when the run was killed
    assert not list((work / "embeddings").glob(".unfinished-*"))
    shards = ShardFolder(work / "embeddings", json.loads((work / "embeddings" / "manifest.json").read_text())["job"])
    vectors = np.concatenate([shards.load(number)["embeddings"] for number in shards.numbers()])
    assert np.array_equal(vectors, WordEncoder().encode_passages(collection(200)))
