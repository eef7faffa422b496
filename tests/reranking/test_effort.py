"""Reading no more than it takes: against what is ranked with full effort, and against a slow reference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins import BiEncoder, BioReranker, Boosts, Candidate, Passage, PassageIndex, Ranking, TwoStageSearch
from biorerank_plugins.errors import ModelError
from biorerank_plugins.testing import ScriptedScorer

QUERY = "which drug inhibits platelets"
NAME = "a first stage"


def scripted(logits: Sequence[float], read: list[str] | None = None) -> BioReranker:
    """A reranker whose logits are these, passage by passage; it notes what it reads."""

    def logit(_: str, text: str) -> float:
        if read is not None:
            read.append(text)
        return float(logits[int(text.split()[-1])])

    return BioReranker(ScriptedScorer(logit))


def candidates(scores: Sequence[float]) -> list[Candidate]:
    return [Candidate(Passage(f"p{n}", f"text {n}"), float(score)) for n, score in enumerate(scores)]


def lines(ranking: Ranking) -> list[tuple[Any, ...]]:
    return [(one.passage.id, one.rank, one.input_index, one.logit, one.fused, one.score) for one in ranking]


def test_what_cannot_lead_is_not_read():
    read: list[str] = []
    reranker = scripted([1.0] * 100, read)
    ranking = reranker.rank(QUERY, candidates(range(100, 0, -1)), fusion=1.0, top_k=3, effort="auto")
    assert [one.passage.id for one in ranking] == ["p0", "p1", "p2"]
    assert read == [f"text {n}" for n in range(16)]
    assert ranking.unread == 84
    assert ranking.to_dict()["unread"] == 84
    assert lines(ranking) == lines(reranker.rank(QUERY, candidates(range(100, 0, -1)), fusion=1.0, top_k=3))


def test_it_goes_on_while_another_one_may_lead():
    logits = [0.0] * 100
    logits[3], logits[40] = 60.0, 60.0  # with what p3 shows p40 may still lead, and once it is read no other one
    read: list[str] = []
    ranking = scripted(logits, read).rank(QUERY, candidates(range(100, 0, -1)), fusion=1.0, top_k=2, effort="auto")
    assert [one.passage.id for one in ranking] == ["p3", "p40"]
    assert len(read) == 48


@pytest.mark.parametrize("options", [{}, {"top_k": 100}, {"top_k": 3, "fusion": None}])
def test_where_nothing_can_be_spared_all_is_read(options: dict[str, Any]):
    given = candidates(range(40, 0, -1))
    reranker = scripted(np.random.default_rng(0).normal(size=40))
    ranking = reranker.rank(QUERY, given, **{"fusion": 1.0, "effort": "auto", **options})
    assert ranking.unread == 0
    assert "unread" not in ranking.to_dict()
    assert lines(ranking) == lines(reranker.rank(QUERY, given, **{"fusion": 1.0, **options}))


def test_texts_without_scores_are_all_read():
    read: list[str] = []
    ranking = scripted(range(40), read).rank(QUERY, [f"text {n}" for n in range(40)], top_k=3, effort="auto")
    assert (len(read), ranking.unread) == (40, 0)


@given(
    st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=60),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 3.0]),
)
def test_it_stops_where_the_slow_way_does(values: list[tuple[int, int]], top_k: int, weight: float):
    scores, logits = ([pair[n] for pair in values] for n in (0, 1))
    read: list[str] = []
    reranker = scripted(logits, read)
    ranking = reranker.rank(QUERY, candidates(scores), fusion=weight, top_k=top_k, effort="auto")
    added = [weight * (score - max(scores)) for score in scores]
    order = sorted(range(len(values)), key=lambda n: -added[n])
    expected = order[: max(2 * top_k, 16)]
    while len(expected) < len(order):
        last = sorted(added[n] + logits[n] for n in expected)[-top_k]
        rest = order[len(expected) :]
        more = [n for n in rest[:16] if added[n] + max(logits[n] for n in expected) > last]
        if not more:
            break
        expected += more
    assert sorted(read) == sorted(f"text {n}" for n in expected)
    full = lines(reranker.rank(QUERY, candidates(scores), fusion=weight))
    of_read = [line for line in full if f"text {line[2]}" in set(read)] if top_k else []
    assert [line[0] for line in lines(ranking)] == [line[0] for line in of_read[:top_k]]
    assert ranking.unread == len(values) - len(expected)


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path, tmp_path: Path) -> BioReranker:
    return with_quantile(tiny_cross_encoder_dir, tmp_path / "m", 1.0)


def with_quantile(model: Path, folder: Path, quantile: object, **options: Any) -> BioReranker:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    stored = {"fusion": {NAME: {"weight": 2.0, "reference": 1.0, "quantile": quantile}}, "rank_weight": 20.0}
    (folder / "biorerank.json").write_text(json.dumps(stored), encoding="utf-8")
    return BioReranker(folder, device="cpu", dtype="float32", **options)


WORDS = "aspirin inhibits platelets insulin lowers glucose cells divide the heart drug which".split()
TEXTS = [" ".join(np.random.default_rng(n).choice(WORDS, 3 + n % 5)) for n in range(80)]


def found(name: str | None = NAME, step: float = 0.5) -> list[Candidate]:
    return [Candidate(Passage(f"p{n}", text), 1 - step * n, first_stage=name) for n, text in enumerate(TEXTS)]


def near(ours: Ranking, full: Ranking) -> None:
    assert [line.passage.id for line in ours] == [line.passage.id for line in full]
    for name in ("logit", "fused", "score", "probability"):
        assert [getattr(line, name) for line in ours] == pytest.approx([getattr(line, name) for line in full], abs=1e-5)


@pytest.mark.parametrize("name", [NAME, "another"])
def test_a_stored_weight_and_a_rank_serve_as_well(reranker: BioReranker, name: str):
    ours, full = (reranker.rank(QUERY, found(name), top_k=3, effort=effort) for effort in ("auto", "full"))
    near(ours, full)
    assert ours.unread > 0
    assert ours.no_evidence == full.no_evidence


def test_a_lower_quantile_reads_less(tiny_cross_encoder_dir: Path, tmp_path: Path):
    unread = []
    for quantile in (1.0, 0.5, 0.0):
        one = with_quantile(tiny_cross_encoder_dir, tmp_path / str(quantile), quantile)
        unread.append(one.rank(QUERY, found(step=0.002), top_k=5, effort="auto").unread)
    assert unread == sorted(unread)
    assert unread[0] < unread[-1]


def test_boosts_count_before_it_is_read():
    typed = candidates(range(100, 0, -1))
    review = Passage("p70", "text 70", metadata={"publication_types": ["Review"]})
    typed[70] = Candidate(review, typed[70].score)
    boosts = Boosts(publication_types={"Review": 90.0})
    options: dict[str, Any] = {"fusion": 1.0, "boosts": boosts, "top_k": 3}
    ours, full = (scripted([1.0] * 100).rank(QUERY, typed, effort=effort, **options) for effort in ("auto", "full"))
    assert [one.passage.id for one in ours] == ["p70", "p0", "p1"]
    assert ours.unread == 84
    near(ours, full)


def test_equal_passages_have_equal_logits(reranker: BioReranker):
    twice = [*found(), *(Candidate(Passage(f"q{n}", text), 0.5, first_stage=NAME) for n, text in enumerate(TEXTS))]
    ranking = reranker.rank(QUERY, twice, top_k=40, effort="auto")
    logits = {line.passage.id: line.logit for line in ranking}
    pairs = [(logits[f"p{n}"], logits[f"q{n}"]) for n in range(80) if f"p{n}" in logits and f"q{n}" in logits]
    assert pairs
    assert all(one == other for one, other in pairs)


def test_many_questions_are_answered_as_one_by_one(reranker: BioReranker):
    requests = [(QUERY, found()), ("the heart", found()[:9]), ("insulin", []), (QUERY, found(step=0.3))]
    for (query, passages), ranking in zip(requests, reranker.rank_many(requests, top_k=4, effort="auto"), strict=True):
        alone = reranker.rank(query, passages, top_k=4, effort="auto")
        near(ranking, alone)
        assert ranking.unread == alone.unread


def test_long_passages_duplicates_thresholds_and_evidence(tiny_cross_encoder_dir: Path, tmp_path: Path):
    long = [Candidate(Passage(f"p{n % 70}", ". ".join(TEXTS[n:] + TEXTS[:n])), 1 - 0.1 * n, first_stage=NAME)
            for n in range(80)]  # fmt: skip
    with with_quantile(tiny_cross_encoder_dir, tmp_path / "m", 1.0, window_length=32) as reranker:
        options: dict[str, Any] = {"top_k": 3, "deduplicate": "id", "evidence": 1, "min_probability": 0.01}
        ours, full = (reranker.rank(QUERY, long, effort=effort, **options) for effort in ("auto", "full"))
    near(ours, full)
    assert ours.unread > 0
    assert [line.n_windows for line in ours] == [line.n_windows for line in full]
    assert [line.window for line in ours] == [line.window for line in full]
    assert [[one.text for one in line.evidence] for line in ours] == [
        [one.text for one in line.evidence] for line in full
    ]
    assert ours.dropped == full.dropped


def test_a_search_takes_it(tiny_encoder_dir: Path):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    with PassageIndex.build([one.passage for one in found()], encoder=encoder) as index:
        search = TwoStageSearch(index, BioReranker(ScriptedScorer(lambda _, text: float(len(text) % 7))))
        options: dict[str, Any] = {"candidates": 80, "fusion": 500.0, "top_k": 2}
        ours, full = (search.search(QUERY, effort=effort, **options) for effort in ("auto", "full"))
    near(ours, full)
    assert ours.unread > 0


@pytest.mark.parametrize("quantile", [-0.1, 1.5, "high", None])
def test_a_damaged_quantile_is_named(tiny_cross_encoder_dir: Path, tmp_path: Path, quantile: object):
    with pytest.raises(ModelError, match="quantile"):
        with_quantile(tiny_cross_encoder_dir, tmp_path / "m", quantile).warm_up()


def test_another_effort_is_refused(reranker: BioReranker):
    with pytest.raises(ValueError, match=r"effort='some' is unknown\. Choose one of: full, auto\."):
        reranker.rank(QUERY, ["aspirin"], effort="some")  # type: ignore[arg-type]
