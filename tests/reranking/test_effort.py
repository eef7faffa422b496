"""Reading no more than it takes: against what is ranked with full effort, and against a slow reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biorerank_plugins import BiEncoder, BioReranker, Boosts, Candidate, Passage, PassageIndex, Ranking, TwoStageSearch
from biorerank_plugins.errors import ModelError
from biorerank_plugins.testing import ScriptedScorer

QUERY = "which drug inhibits platelets"
NAME, WEIGHT = "a first stage", 2.0


def with_quantile(
    model: Path, folder: Path, quantile: object, name: str = NAME, weight: float = WEIGHT, **options: Any
) -> BioReranker:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    stored = {"fusion": {name: {"weight": weight, "reference": 1.0, "quantile": quantile}}, "rank_weight": 20.0}
    (folder / "biorerank.json").write_text(json.dumps(stored), encoding="utf-8")
    return BioReranker(folder, device="cpu", dtype="float32", **options)


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path, tmp_path: Path) -> BioReranker:
    return with_quantile(tiny_cross_encoder_dir, tmp_path / "m", 1.0)


@pytest.fixture(scope="module")
def by_quantile(tiny_cross_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, BioReranker]:
    folder = tmp_path_factory.mktemp("quantiles")
    return {q: with_quantile(tiny_cross_encoder_dir, folder / str(q), q) for q in (0.0, 0.5, 1.0)}


WORDS = "aspirin inhibits platelets insulin lowers glucose cells divide the heart drug which".split()
TEXTS = [" ".join(np.random.default_rng(n).choice(WORDS, 3 + n % 5)) for n in range(80)]


def found(name: str | None = NAME, step: float = 0.5) -> list[Candidate]:
    return [Candidate(Passage(f"p{n}", text), 1 - step * n, first_stage=name) for n, text in enumerate(TEXTS)]


def near(ours: Ranking, full: Ranking) -> None:
    assert [line.passage.id for line in ours] == [line.passage.id for line in full]
    for name in ("logit", "fused", "score", "probability"):
        assert [getattr(line, name) for line in ours] == pytest.approx([getattr(line, name) for line in full], abs=1e-5)


def test_what_cannot_lead_is_not_read(reranker: BioReranker):
    ours, full = (reranker.rank(QUERY, found(), top_k=3, effort=effort) for effort in ("auto", "full"))
    near(ours, full)
    assert ours.to_dict()["unread"] == ours.unread > 0
    assert ours.no_evidence == full.no_evidence


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_stops_where_the_slow_way_does(
    by_quantile: dict[float, BioReranker], scores: list[float], top_k: int, quantile: float
):
    reranker = by_quantile[quantile]
    passages = [Candidate(one.passage, score, first_stage=NAME) for one, score in zip(found(), scores, strict=False)]
    full = reranker.rank(QUERY, passages)
    logits = {line.input_index: line.logit for line in full}
    added = [WEIGHT * (score - 1.0) for score in scores]
    order = sorted(range(len(scores)), key=lambda n: -added[n])
    expected = order[: max(2 * top_k, 16)]
    while len(expected) < len(order):
        last = sorted(added[n] + logits[n] for n in expected)[-top_k]
        likely = float(np.quantile([logits[n] for n in expected], quantile))
        more = [n for n in order[len(expected) :][:16] if added[n] + likely > last]
        if not more:
            break
        expected += more
    ours = reranker.rank(QUERY, passages, top_k=top_k, effort="auto")
    assert ours.unread == len(scores) - len(expected)
    of_read = [line for line in full if line.input_index in expected]
    assert [line.input_index for line in ours] == [line.input_index for line in of_read[:top_k]]
    assert [line.logit for line in ours] == pytest.approx([line.logit for line in of_read[:top_k]], abs=1e-5)


def test_a_lower_quantile_reads_less(by_quantile: dict[float, BioReranker]):
    rankings = [one.rank(QUERY, found(step=0.002), top_k=5, effort="auto") for one in by_quantile.values()]
    unread = [ranking.unread for ranking in rankings]
    assert unread == sorted(unread, reverse=True)
    assert unread[0] > unread[-1]


@pytest.mark.parametrize("options", [{}, {"top_k": 80}, {"top_k": 3, "fusion": None}, {"top_k": 3, "fusion": 9.0}])
def test_where_nothing_can_be_spared_all_is_read(reranker: BioReranker, options: dict[str, Any]):
    ranking = reranker.rank(QUERY, found(), effort="auto", **options)
    assert ranking.unread == 0
    assert "unread" not in ranking.to_dict()
    near(ranking, reranker.rank(QUERY, found(), **options))


def test_behind_what_the_model_does_not_know_all_is_read(reranker: BioReranker):
    for passages in (found("another"), found(None), TEXTS):
        assert reranker.rank(QUERY, passages, top_k=3, effort="auto").unread == 0
    scripted = BioReranker(ScriptedScorer(lambda *_: 0.0))
    assert scripted.rank(QUERY, found(), top_k=3, effort="auto").unread == 0


def test_behind_a_second_reader_all_is_read(tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path):
    name = str(tiny_encoder_dir)
    reranker = with_quantile(tiny_cross_encoder_dir, tmp_path / "m", 0.0, name, 300.0)
    stored = json.loads((tmp_path / "m/biorerank.json").read_text(encoding="utf-8"))
    (tmp_path / "m/biorerank.json").write_text(json.dumps(stored | {"second_reader": {"encoder": name}}), "utf-8")
    assert reranker.rank(QUERY, found(name), top_k=3, effort="auto").unread > 0
    assert reranker.rank(QUERY, TEXTS, top_k=3, effort="auto", fusion="second-reader").unread == 0


def test_boosts_count_before_it_is_read(reranker: BioReranker):
    typed = found()
    review = Passage("p70", TEXTS[70], metadata={"publication_types": ["Review"]})
    typed[70] = Candidate(review, typed[70].score, first_stage=NAME)
    options: dict[str, Any] = {"boosts": Boosts(publication_types={"Review": 500.0}), "top_k": 3}
    ours, full = (reranker.rank(QUERY, typed, effort=effort, **options) for effort in ("auto", "full"))
    assert ours[0].passage.id == "p70"
    assert ours.unread > 0
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


def test_a_search_takes_it(tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    with PassageIndex.build([one.passage for one in found()], encoder=encoder) as index:
        name = str(index.scores_of("dense"))
        reranker = with_quantile(tiny_cross_encoder_dir, tmp_path / "m", 0.5, name, 300.0)
        search = TwoStageSearch(index, reranker, first_stage="dense")
        ours, full = (search.search(QUERY, candidates=80, top_k=2, effort=effort) for effort in ("auto", "full"))
    assert 0 < ours.unread < 80
    logits = {line.passage.id: line.logit for line in full}
    assert [line.logit for line in ours] == pytest.approx([logits[line.passage.id] for line in ours], abs=1e-5)


@pytest.mark.parametrize("quantile", [-0.1, 1.5, "high"])
def test_a_damaged_quantile_is_named(tiny_cross_encoder_dir: Path, tmp_path: Path, quantile: object):
    with pytest.raises(ModelError, match="quantile"):
        with_quantile(tiny_cross_encoder_dir, tmp_path / "m", quantile).warm_up()


def test_another_effort_is_refused(reranker: BioReranker):
    with pytest.raises(ValueError, match=r"effort='some' is unknown\. Choose one of: full, auto\."):
        reranker.rank(QUERY, ["aspirin"], effort="some")  # type: ignore[arg-type]
