"""Numbers: what is not finite, what does not fit into memory, equal values, and what the mix of a batch changes."""

from __future__ import annotations

import json
import logging
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fresh import run_fresh
from support.scorers import by_number
from support.texts import WORDS, texts_of

from biorerank_plugins import BioReranker, Passage, models
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.runtime.memory import is_out_of_memory

QUERY = "is p53 a tumour suppressor"
OTHER_WORDS = [*(word for word in WORDS if word != "aspirin"), "in"]  # those whose embedding is what it was
_texts = partial(texts_of, words=OTHER_WORDS)
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"


def _with_embedding(folder: Path, target: Path, value: float) -> Path:
    """Return a copy of a model in which the embedding of ``aspirin`` is one large number, or none."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    word = AutoTokenizer.from_pretrained(target).convert_tokens_to_ids("aspirin")
    weights[EMBEDDINGS][word, 0] = value
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _logits(ranking) -> dict[int, float]:
    return {line.input_index: line.logit for line in ranking}


# Not finite


def test_what_bf16_cannot_hold_is_computed_again_in_fp32(tiny_cross_encoder_dir, tmp_path, caplog):
    """3.4e38 is a number in fp32, and infinite once it is rounded to bf16."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.intermediate.dense.bias"].fill_(3.4e38)
    weights["bert.encoder.layer.1.output.dense.weight"] *= 1e-38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    options = {"device": "cpu", "backend": "packed"}
    with (
        BioReranker(folder, dtype="float32", **options) as exact,
        BioReranker(folder, dtype="bfloat16", **options) as half,
    ):
        expected = _logits(exact.rank(QUERY, _texts(11)))
        with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
            found = _logits(half.rank(QUERY, _texts(11)))
        assert found == pytest.approx(expected, abs=1e-4)
        assert "not finite in torch.bfloat16; the batch is computed again in fp32" in caplog.text


@pytest.mark.parametrize("backend", ["packed", "torch"])
def test_what_is_no_number_in_fp32_either_names_its_passages_and_no_others(tiny_cross_encoder_dir, tmp_path, backend):
    folder = _with_embedding(tiny_cross_encoder_dir, tmp_path / "model", float("nan"))
    passages = [Passage(f"p{n}", text) for n, text in enumerate(_texts(12))]
    passages[3] = Passage("third", "aspirin")
    passages[7] = Passage("seventh", "cells and aspirin " * 3)
    with BioReranker(folder, device="cpu", dtype="float32", backend=backend) as reranker:
        with pytest.raises(ScoringError, match=r"no finite logit for 2 of 12 passages: third, seventh") as caught:
            reranker.rank(QUERY, passages)
        assert caught.value.passage_ids == ("third", "seventh")
        fine = [passage for number, passage in enumerate(passages) if number not in (3, 7)]
        assert len(reranker.rank(QUERY, fine)) == 10


# Out of memory


def test_memory_that_runs_out_halves_the_batch_and_is_remembered(tiny_cross_encoder_dir):
    """With a real limit on the memory of the process: what one batch would need is not there."""
    resource = pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much memory a process has")
    del resource
    script = """
import logging, resource, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
import torch
torch.set_num_threads(1)
from biorerank_plugins import BioReranker
texts = [f"p53 {number} suppresses tumours " + "cells " * 80 for number in range(1500)]
small = BioReranker(sys.argv[1], device="cpu", dtype="float32", backend="torch")
expected = small.score("is p53 good", texts[:200])
large = BioReranker(sys.argv[1], device="cpu", dtype="float32", backend="torch", max_batch_tokens=2_000_000)
large.score("is p53 good", texts[:2])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)
found = large.score("is p53 good", texts)
assert max(abs(one - other) for one, other in zip(found[:200], expected)) < 1e-4
ceiling = large._scorer._worker.max_batch_tokens
assert ceiling < 145_000, ceiling
print("again")
again = large.score("is p53 good", texts)
assert max(abs(one - other) for one, other in zip(again, found)) < 1e-4
"""
    done = run_fresh(script, tiny_cross_encoder_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    first, again = done.stdout.split("again")
    assert "Out of memory with" in first
    assert "Set max_batch_tokens=" in first
    # The smaller batch is remembered; an allocator in pieces may need it once smaller still, but never larger again.
    before, after = ([int(size) for size in re.findall(r"going on with (\d+)", part)] for part in (first, again))
    assert len(after) <= 1
    assert all(size < min(before) for size in after)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("a pair is too long"), False),
    ],
)
def test_which_errors_are_about_memory(error, memory):
    assert is_out_of_memory(error) == memory


# Equal values, and the mix of a batch


def test_equal_values_keep_the_order_they_came_in_whatever_enters_it():
    drawn = np.random.default_rng(0).integers(0, 3, 200).tolist()
    with BioReranker(by_number()) as reranker:
        ranking = reranker.rank("q", [f"{value} {number}" for number, value in enumerate(drawn)])
    assert [line.input_index for line in ranking] == sorted(range(200), key=lambda n: (-drawn[n], n))


def test_the_same_passage_has_one_value_wherever_it_stands(tiny_cross_encoder_dir):
    """Rows of a batch differ in the last bits: without care, ties would not be ties."""
    texts = _texts(40)
    repeated = [texts[n % 40] for n in np.random.default_rng(0).permutation(160).tolist()]
    for dtype in ("float32", "bfloat16"):
        with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype=dtype) as reranker:
            ranking = reranker.rank(QUERY, repeated)
        logits = _logits(ranking)
        order = [line.input_index for line in ranking]
        assert order == sorted(order, key=lambda place: (-logits[place], place))
        for text in texts:
            assert len({line.logit for line in ranking if line.passage.text == text}) == 1


@pytest.mark.parametrize("backend", ["packed", "torch"])
def test_the_same_call_gives_the_same_bits_whatever_was_before(tiny_cross_encoder_dir, backend):
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "backend": backend}
    with BioReranker(tiny_cross_encoder_dir, **options) as reranker:
        first = reranker.rank(QUERY, _texts(30))
        for seed in range(5):
            reranker.rank(QUERY, _texts(11, seed=seed, longest=90))
            assert [(line.input_index, line.logit) for line in reranker.rank(QUERY, _texts(30))] == [
                (line.input_index, line.logit) for line in first
            ]


@pytest.mark.skipif(models.DEFAULT_RERANKER not in models.names(), reason="the embedded reranker is not here")
@pytest.mark.parametrize("backend", ["packed", "torch"])
def test_the_mix_of_a_batch_changes_an_fp32_logit_by_less_than_the_stated_tolerance(backend):
    """The embedded model; each text alone, in a large batch, and in small ones."""
    texts = _texts(16, longest=60)
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "backend": backend}
    with BioReranker(**options) as reranker, BioReranker(**options, max_batch_tokens=100) as small:
        together = _logits(reranker.rank(QUERY, texts))
        assert _logits(small.rank(QUERY, texts)) == pytest.approx(together, abs=1e-5)
        mixed = _logits(reranker.rank(QUERY, [*texts, *_texts(20, seed=1, longest=120)]))
        assert {number: mixed[number] for number in together} == pytest.approx(together, abs=1e-5)
        for number in range(0, 16, 3):
            assert reranker.rank(QUERY, [texts[number]])[0].logit == pytest.approx(together[number], abs=1e-5)
