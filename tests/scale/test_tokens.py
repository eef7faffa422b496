"""Tokens made apart from the encoder give the vectors that the encoder gives by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.fresh import run_fresh

from biorerank_plugins import Passage
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.scale.ray_stages import PassageTokenizer, fed
from biorerank_plugins.scale.shards import embed_shard

PASSAGES = [
    Passage("a", "p53 suppresses tumours.", "TP53"),
    Passage("b", "aspirin inhibits platelets. " * 40),
    Passage("c", "metformin lowers glucose", "Metformin"),
] * 5


@pytest.mark.parametrize("title", ["join", "pair", "omit"])
@pytest.mark.parametrize("prefix", ["", "text: "])
def test_the_same_vectors_bit_by_bit(tiny_encoder_dir, title, prefix):
    encoder = BiEncoder(tiny_encoder_dir, title=title, passage_prefix=prefix, max_length=32, dtype="float32")
    tokens = json.loads(json.dumps(PassageTokenizer(encoder.config())(PASSAGES)))  # as Ray hands them on
    assert {len(one["input_ids"]) for one in tokens} > {32}
    shard = embed_shard(PASSAGES, fed(encoder, tokens), batch_size=4)
    assert np.array_equal(shard.embeddings, embed_shard(PASSAGES, encoder, batch_size=4).embeddings)


MISSING = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
import biorerank_plugins.scale.ray_engine, biorerank_plugins.scale.sharded, biorerank_plugins.scale.planning
from biorerank_plugins.errors import MissingExtraError
try:
    with biorerank_plugins.scale.ray_engine.running_ray():
        pass
except MissingExtraError as error:
    print(error)
"""


def test_without_ray_the_pip_line_is_named():
    done = run_fresh(MISSING)
    assert done.stdout.strip().endswith(install_line("ray")), done.stderr
