"""Where BioReranker stands in for CrossEncoder: the same numbers, the same keywords, and no list that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from biorerank_plugins import BioReranker

WORDS = "aspirin inhibits platelets insulin lowers glucose the heart divides cells".split()


@pytest.fixture(scope="module")
def theirs(tiny_cross_encoder_dir: Path) -> CrossEncoder:
    return CrossEncoder(str(tiny_cross_encoder_dir), device="cpu")


@pytest.fixture(scope="module")
def ours(tiny_cross_encoder_dir: Path) -> BioReranker:
    return BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", query_max_length=8)


def words(n: int, step: int) -> str:
    return " ".join(WORDS[(place * step) % len(WORDS)] for place in range(n))


def test_every_pair_that_fits_is_read_as_it_is_there(theirs: CrossEncoder, ours: BioReranker):
    room = min(theirs.max_seq_length or 512, 512) - 3
    every = [(words(n, 3), words(m, 7)) for n in (1, 7, 8, 9, 20, 40) for m in (1, 5, 15, 40)]
    pairs = [pair for pair in every if ours.count_tokens(list(pair)) <= room]
    assert max(ours.count_tokens([query]) for query, _ in pairs) > 2 * 8
    np.testing.assert_allclose(ours.predict(pairs), theirs.predict(pairs), atol=1e-5)
    query, texts = words(20, 3), [words(4, 7), words(9, 7)]
    assert ours.score(query, texts) == pytest.approx(theirs.predict([(query, t) for t in texts]).tolist(), abs=1e-5)
    ranking = ours.rank(query, texts)
    assert ranking.query_truncated is False


def test_a_long_text_still_cuts_the_query_to_what_it_may_have(ours: BioReranker):
    limit = ours.count_tokens([words(1, 3)]) * 600
    ranking = ours.rank(words(30, 3), [words(limit, 7)], evidence=0)
    assert ranking.query_truncated is True


def test_its_keywords(theirs: CrossEncoder, ours: BioReranker):
    pairs = [(words(2, 3), words(5, 7)), (words(3, 3), words(2, 7))]
    expected = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    found = ours.predict(pairs, batch_size=1, show_progress_bar=False, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    tensor = ours.predict(pairs, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (2,)
    listed = ours.predict(pairs, convert_to_numpy=False)
    assert isinstance(listed, list) and [one.item() for one in listed] == tensor.tolist()
    assert float(ours.predict(pairs[0])) == pytest.approx(float(theirs.predict(pairs[0])), abs=1e-5)
    assert ours.predict(pairs, apply_softmax=True).tolist() == tensor.tolist(), "one label has no softmax"
    assert ours.predict([]).shape == (0,)


@pytest.mark.parametrize(
    ("keyword", "hint"), [({"device": "cpu"}, "device=…"), ({"prompt": "q: "}, "query_prefix"), ({"sizes": 3}, "sizes")]
)
def test_a_keyword_that_means_nothing_here_says_what_does(ours: BioReranker, keyword: dict[str, Any], hint: str):
    with pytest.raises(TypeError, match=hint):
        ours.predict([("a", "b")], **keyword)


def test_rank_takes_documents(ours: BioReranker):
    texts = [words(4, 7), words(9, 7)]
    assert list(ours.rank("q", documents=texts)) == list(ours.rank("q", texts))
    for given in ({}, {"passages": texts, "documents": texts}):
        with pytest.raises(TypeError, match="give one"):
            ours.rank("q", **given)


class Table:
    """As a DataFrame is: it yields the names of its columns."""

    columns = ("query", "text")

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return 2


@pytest.mark.parametrize("given", [{"a": "b"}, {"a", "b"}, frozenset({"a"}), "text", b"text", Table(), 3, None])
def test_what_is_no_list_of_texts_is_refused(ours: BioReranker, given: Any):
    for call in (lambda: ours.predict(given), lambda: ours.score("q", given), lambda: ours.rank("q", given)):
        with pytest.raises(TypeError, match=r"Expected a list|give one"):
            call()
