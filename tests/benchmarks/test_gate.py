"""The quality gate, on the tiny model and on logits made up for the purpose."""

from __future__ import annotations

import json

import pytest
from support.packed import needs_bytes

from benchmarks.quality.gate import Asked, compare_path, neighbour_moves, path_logits, reference_logits
from biorerank_plugins import BioReranker, Candidate, Passage

WORDS = "p53 gene cancer tumours aspirin platelets heart failure insulin glucose metformin liver brain".split()
QUESTIONS = ("does p53 suppress tumours?", "which drug lowers glucose?", "what inhibits platelets in heart failure?")
INT8_TOLERANCE, TOLERANCE = 0.005, 0.002
STEP = 1.0


def _pool(number):
    return [
        Candidate(
            Passage(
                f"p{place}",
                " ".join(WORDS[(number + place * step) % len(WORDS)] for step in range(1, 3 + place % 9)),
                "title" if place % 3 else None,
            ),
            score=1 / (1 + place),
            rank=place + 1,
        )
        for place in range(150)
    ]


def _apart(one, logits):
    """Candidates whose logits differ clearly: the weights of the tiny model are random and large, and so are the steps
    of half precision in its logits; a trained model's are not."""
    kept = []
    for candidate in one.candidates:
        if all(abs(logits[candidate.passage.id] - logits[other.passage.id]) > STEP for other in kept):
            kept.append(candidate)
    return Asked(one.id, one.text, kept)


@pytest.fixture(scope="module")
def gold(tiny_cross_encoder_dir):
    """Questions with candidates, the reference's logits, and judgements: the reference's second and fourth."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu", model_kwargs={"dtype": torch.float32})
    pool = [Asked(f"q{number}", question, _pool(number)) for number, question in enumerate(QUESTIONS)]
    logits = reference_logits(model, pool)
    asked = [_apart(one, logits[one.id]) for one in pool]
    reference = reference_logits(model, asked)
    ranked = {query: sorted(own, key=lambda id_: -own[id_]) for query, own in reference.items()}
    assert all(len(ids) >= 5 for ids in ranked.values()), ranked
    return asked, reference, {query: {ids[1]: 1, ids[3]: 1} for query, ids in ranked.items()}


PATHS = [
    ("torch", "float32", TOLERANCE),
    ("torch", "bfloat16", TOLERANCE),
    ("packed", "float32", TOLERANCE),
    ("packed", "bfloat16", TOLERANCE),
    pytest.param("packed", "int8", INT8_TOLERANCE, marks=needs_bytes),
]


@pytest.mark.parametrize(("backend", "dtype", "tolerance"), PATHS)
def test_a_path_ranks_as_the_reference(tiny_cross_encoder_dir, gold, backend, dtype, tolerance):
    asked, reference, qrels = gold
    with BioReranker(tiny_cross_encoder_dir, device="cpu", backend=backend, dtype=dtype, windows=False) as reranker:
        logits = path_logits(reranker, asked, seed=1)
        moves = neighbour_moves(reranker, asked, alone=3)
    found = compare_path(asked, qrels, reference, logits, fusion=0.05)
    assert found.pairs == moves.pairs == sum(len(one.candidates) for one in asked)
    assert found.within(tolerance), found
    near = {"float32": 1e-4, "bfloat16": STEP / 2, "int8": STEP}[dtype]
    assert found.largest < near, found
    assert max(moves.together[0], moves.alone[0]) < near, moves


def test_the_reference_is_no_distance_from_itself(gold):
    asked, reference, qrels = gold
    found = compare_path(asked, qrels, reference, reference, fusion=None)
    assert (found.largest, found.mean, found.delta, found.fused_delta, found.changed) == (0, 0, 0, 0, 0)
    assert found.within(0)
    assert json.loads(json.dumps(found.to_dict()))["pairs"] == found.pairs


def test_a_path_that_mixes_up_its_passages_breaks_the_gate(gold):
    """Logits that belong to another place of the list, as a scheduling bug would give them."""
    asked, reference, qrels = gold
    shifted = {
        query: dict(zip(logits, [*list(logits.values())[1:], next(iter(logits.values()))], strict=True))
        for query, logits in reference.items()
    }
    found = compare_path(asked, qrels, reference, shifted, fusion=None)
    assert found.largest > 0.1
    assert not found.within(INT8_TOLERANCE)


def test_differences_by_hand():
    passages = [
        Candidate(Passage(name, name), score, rank) for rank, (name, score) in enumerate([("a", 3.0), ("b", 0.0)])
    ]
    asked = [Asked("q", "question", passages)]
    before, after = {"q": {"a": 1.0, "b": 2.0}}, {"q": {"a": 2.5, "b": 2.0}}
    found = compare_path(asked, {"q": {"b": 1}}, before, after, fusion=1.0)
    assert found.largest == 1.5
    assert found.mean == 0.75
    # b falls from the first to the second place: 1 / log2(3) of the ideal gain is left
    assert found.ndcg == pytest.approx(0.6309, abs=1e-4)
    assert found.delta == pytest.approx(0.6309 - 1, abs=1e-4)
    # with the first stage's scores a is first before and after
    assert found.fused_delta == 0
    assert found.changed == 0
    assert not found.within(0.005)
    assert found.within(0.5)
