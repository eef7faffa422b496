"""Mixes: lengths as asked for, other passages in each request."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from biorerank_plugins import models
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.speed.systems import tokenizer_of
from biorerank_plugins.speed.texts import Mix, Source, make_requests, read_source


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(models.path(models.DEFAULT_RERANKER))


def _make(mix, tokenizer, source=None, **options):
    options = {"count": 4, "candidates": 50, "max_length": 512, **options}
    return make_requests(source or read_source(None), Mix.parse(mix), tokenizer, **options)


def _oracle(request, limit=512):
    """Tokens of each pair as transformers counts them."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(models.path(models.DEFAULT_RERANKER))
    return [len(words(request.query, text, truncation=True, max_length=limit)["input_ids"]) for text in request.texts]


@pytest.mark.parametrize("mix", ["bioasq", "150"])
def test_lengths_are_what_the_tokenizer_says(tokenizer, mix):
    (request,) = _make(mix, tokenizer, count=1)
    assert list(request.lengths) == _oracle(request)


def test_bioasq_lengths_without_the_data_are_those_of_bioasq(tokenizer):
    requests = _make("bioasq", tokenizer, count=8, candidates=200)
    # less the question and three special tokens: the passage
    tokens = [
        length - 3 - len(tokenizer.encode(request.query, add_special_tokens=False).ids)
        for request in requests
        for length in request.lengths
    ]
    assert np.median(tokens) == pytest.approx(40, abs=4)
    assert np.mean(tokens) == pytest.approx(50, abs=5)


@pytest.mark.parametrize("wanted", [40, 150])
def test_a_mix_of_tokens_is_around_them(tokenizer, wanted):
    lengths = [length for request in _make(str(wanted), tokenizer) for length in request.lengths]
    assert np.mean(lengths) == pytest.approx(wanted, rel=0.06)
    assert min(lengths) >= 0.7 * wanted and max(lengths) <= 1.3 * wanted


def test_long_pairs_are_counted_up_to_the_limit(tokenizer):
    lengths = _make("512", tokenizer, count=1, candidates=40)[0].lengths
    assert max(lengths) == 512
    assert sum(length == 512 for length in lengths) > 10
    assert min(lengths) > 350


def test_no_passage_comes_twice_and_the_same_seed_gives_the_same(tokenizer):
    requests = _make("bioasq", tokenizer)
    texts = [text for request in requests for text in request.texts]
    assert all(len(set(request.texts)) == 50 for request in requests)
    assert len(set(texts)) > 0.95 * len(texts)
    assert len({request.query for request in requests}) == 4
    assert requests == _make("bioasq", tokenizer)
    assert requests != _make("bioasq", tokenizer, seed=1)


def test_real_passages_are_taken_as_they_are(tokenizer):
    source = Source("real", ["what is p53?"], [f"passage {n} is here" for n in range(30)], is_bioasq=True)
    requests = _make("bioasq", tokenizer, source, count=3, candidates=10)
    texts = [text for request in requests for text in request.texts]
    assert sorted(texts) == sorted(source.passages)


def test_too_few_different_passages_are_an_error(tokenizer):
    source = Source("real", ["what is p53?"], ["one", "two"], is_bioasq=True)
    with pytest.raises(ReaderError, match="only 2 different passages for 3 candidates"):
        _make("bioasq", tokenizer, source, candidates=3)


@pytest.mark.parametrize("name", ["", "short", "0", "-5", "1.5", "15", "²"])
def test_an_unknown_mix_is_an_error(name):
    with pytest.raises(ValueError, match="expected 'bioasq' or tokens a pair"):
        Mix.parse(name)


def _write(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("inner", ["", "bioasq"])
def test_the_data_folder_is_read(tmp_path, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    _write(folder / "corpus.jsonl.gz", [{"id": "a", "text": "one"}, {"id": "b", "text": "one"}])
    _write(folder / "dev.jsonl.gz", [{"id": "q", "question": "which?"}])
    source = read_source(tmp_path)
    assert (source.queries, source.passages, source.is_bioasq) == (["which?"], ["one"], True)


def test_a_folder_without_the_data_says_what_is_missing(tmp_path):
    with pytest.raises(ReaderError, match=r"No corpus\.jsonl\.gz and no dev\.jsonl\.gz"):
        read_source(tmp_path)
