"""Fusion of the first stage's scores into the order, against plain arithmetic."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins import BiEncoder, BioReranker, Candidate, Passage, PassageIndex, TwoStageSearch, models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage import Hybrid
from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.testing import ScriptedScorer

LOGITS = {"low": -2.0, "middle": 0.5, "high": 3.0}


def fixed() -> ScriptedScorer:
    """A scorer that knows the logits of three texts; any other text is its own logit."""
    return ScriptedScorer(lambda _, text: LOGITS[text] if text in LOGITS else float(text))


def candidates(*scores: float | None) -> list[Candidate]:
    return [Candidate(Passage(text, text), score) for text, score in zip(LOGITS, scores, strict=True)]


def order(passages: list[Candidate], fusion: float | None) -> list[str]:
    return [ranked.passage.id for ranked in BioReranker(fixed()).rank("q", passages, fusion=fusion)]


def test_the_order_is_by_logit_plus_weighted_score() -> None:
    # fused: -2 + 10 * 0.9 = 7.0, 0.5 + 10 * 0.7 = 7.5, 3 + 10 * 0.1 = 4.0
    assert order(candidates(0.9, 0.7, 0.1), 10) == ["middle", "low", "high"]


@pytest.mark.parametrize("fusion", [None, 0, 0.0])
def test_without_a_weight_the_order_is_by_logit(fusion: float | None) -> None:
    assert order(candidates(0.9, 0.7, 0.1), fusion) == ["high", "middle", "low"]


def test_what_is_shown_is_made_of_what_orders() -> None:
    """Logits 3, 0.5, -2 with scores 0.1, 0.7, 0.9: fused, against the list's best score, -5, -1.5 and -2."""
    fused = BioReranker(fixed()).rank("q", candidates(0.9, 0.7, 0.1), fusion=10)
    assert [r.passage.id for r in fused] == ["middle", "low", "high"]
    assert [r.logit for r in fused] == [0.5, -2.0, 3.0]
    assert [r.fused for r in fused] == [pytest.approx(-1.5), pytest.approx(-2.0), pytest.approx(-5.0)]
    for ranked in fused:
        assert ranked.order_value == ranked.fused
        assert ranked.score == pytest.approx(1 / (1 + math.exp(-ranked.fused)), abs=1e-6)
        assert ranked.probability == pytest.approx(ranked.score, abs=1e-6)


def test_thresholds_hold_for_what_is_shown() -> None:
    ranking = BioReranker(fixed()).rank("q", candidates(0.9, 0.7, 0.1), fusion=10, min_score=0.1)
    assert [r.passage.id for r in ranking] == ["middle", "low"] and ranking.below_threshold == 1
    plain = BioReranker(fixed()).rank("q", candidates(0.9, 0.7, 0.1), fusion=None)
    assert plain[0].fused is None and plain[0].order_value == plain[0].logit


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_a_candidate_without_a_score_counts_as_the_last_of_the_first_stage(unknown: float | None) -> None:
    # fused: -2 + 10 * 0.9 = 7.0, 0.5 + 10 * 0.4 = 4.5, 3 + 10 * 0.4 (the lowest) = 7.0: a tie, which keeps input order
    assert order(candidates(0.9, 0.4, unknown), 10) == ["low", "high", "middle"]


def test_passages_that_carry_no_score_are_ordered_by_logit() -> None:
    assert order(candidates(None, None, None), 10) == ["high", "middle", "low"]


@pytest.mark.parametrize("fusion", [-1, math.nan, math.inf, "5", True])
def test_an_impossible_weight_is_refused_even_without_passages(fusion: object) -> None:
    with pytest.raises(ValueError, match=r"fusion must be a (finite )?number"):
        BioReranker(fixed()).rank("q", [], fusion=fusion)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.floats(-20, 20, width=32), st.floats(-1, 1)), max_size=20),
    st.floats(0, 100),
)
def test_the_order_is_that_of_a_plain_sort(values: list[tuple[float, float]], weight: float) -> None:
    passages = [Candidate(Passage(str(i), repr(logit)), score) for i, (logit, score) in enumerate(values)]
    best = max((score for _, score in values), default=0.0)
    expected = sorted(range(len(values)), key=lambda i: -(values[i][0] + weight * (values[i][1] - best)))
    ranking = BioReranker(fixed()).rank("q", passages, fusion=weight)
    assert [ranked.input_index for ranked in ranking] == expected
    shown = [(ranked.score, ranked.probability) for ranked in ranking]
    assert shown == sorted(shown, reverse=True)  # a list read downwards never rises


@pytest.mark.parametrize("n", [*range(1, 40), 1000])
def test_equal_values_have_equal_scores_however_many_they_are(n: int) -> None:
    passages = [Passage(str(i), "-26.6") for i in range(n)]
    assert len({ranked.score for ranked in BioReranker(fixed()).rank("q", passages)}) == 1


def rank_store(model: Path, folder: Path, content: str) -> BioReranker:
    """A reranker with what is stored beside its weights."""
    shutil.copytree(model, folder)
    (folder / "biorerank.json").write_text(content, encoding="utf-8")
    return BioReranker(folder, device="cpu", dtype="float32")


def test_the_rank_of_an_unknown_first_stage_enters_where_a_weight_is_stored(
    tiny_cross_encoder_dir: Path, tmp_path: Path
) -> None:
    reranker = rank_store(tiny_cross_encoder_dir, tmp_path / "m", '{"rank_weight": 0.75}')
    texts = ["aspirin inhibits platelets", "insulin lowers glucose", "cells divide", "the heart"]
    scores = [3.0, 17.0, 3.0, None]  # ranks 2, 1, 2 and 4
    passages = [Candidate(Passage(text, text), score) for text, score in zip(texts, scores, strict=True)]
    logit = {text: reranker.rank("which drug", [text])[0].logit for text in texts}
    ranking = reranker.rank("which drug", passages)
    expected = {t: logit[t] - 0.75 * math.log(rank) for t, rank in zip(texts, [2, 1, 2, 4], strict=True)}
    assert {r.passage.id: r.fused for r in ranking} == {t: pytest.approx(v, abs=1e-4) for t, v in expected.items()}
    assert [r.passage.id for r in ranking] == sorted(texts, key=lambda t: -expected[t])


def test_the_rank_does_not_enter_for_strings_by_wish_or_without_a_stored_weight(
    tiny_cross_encoder_dir: Path, tmp_path: Path
) -> None:
    texts = ["aspirin inhibits platelets", "insulin lowers glucose"]
    found = [Candidate(Passage(text, text), score) for text, score in zip(texts, [1.0, 2.0], strict=True)]
    stored = rank_store(tiny_cross_encoder_dir, tmp_path / "m", '{"rank_weight": 0.75}')
    foreign = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    for ranking in (stored.rank("q", texts), stored.rank("q", found, fusion=None), foreign.rank("q", found)):
        assert [r.fused for r in ranking] == [None, None]


def test_a_stored_reference_and_calibration_belong_to_their_first_stage(
    tiny_cross_encoder_dir: Path, tmp_path: Path
) -> None:
    content = (
        '{"calibration": {"slope": 2.0}, "fusion": {"one": {"weight": 3, "reference": 0.5, '
        '"calibration": {"slope": 0.5, "intercept": 1.0, "evidence_threshold": 0.0}}}}'
    )
    reranker = rank_store(tiny_cross_encoder_dir, tmp_path / "m", content)
    [ranked] = ranking = reranker.rank("q", [Candidate(Passage("a", "cells divide"), 0.9, 1, "one")])
    assert ranked.fused == pytest.approx(ranked.logit + 3 * (0.9 - 0.5))
    assert ranked.probability == pytest.approx(1 / (1 + math.exp(-(0.5 * ranked.fused + 1.0))))
    assert ranking.no_evidence is False
    [plain] = other = reranker.rank("q", ["cells divide"])
    assert plain.probability == pytest.approx(1 / (1 + math.exp(-2.0 * plain.logit)))
    assert other.no_evidence is None


@pytest.fixture
def two_stages(tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path, tmp_path: Path) -> TwoStageSearch:
    """Two stages with a reranker folder of its own, whose ``biorerank.json`` a test may write."""
    folder = tmp_path / "reranker"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    texts = ["p53 suppresses tumours", "aspirin inhibits platelets", "insulin lowers glucose", "the heart", "a drug"]
    index = PassageIndex.build(texts, encoder=BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32"))
    return TwoStageSearch(index, BioReranker(folder, device="cpu", dtype="float32"), first_stage="dense")


def _store(search: TwoStageSearch, tmp_path: Path, text: str, first_stage: FirstStage = "dense") -> TwoStageSearch:
    """Write the settings and return two stages that have not read them yet."""
    folder = tmp_path / "reranker"
    (folder / "biorerank.json").write_text(text, encoding="utf-8")
    return TwoStageSearch(search.index, BioReranker(folder, device="cpu", dtype="float32"), first_stage=first_stage)


def _ids(search: TwoStageSearch, **options: object) -> list[str]:
    return [r.passage.id for r in search.search("which drug inhibits platelets", **options)]  # type: ignore[arg-type]


def test_two_stages_take_the_weight_stored_for_their_encoder(two_stages: TwoStageSearch, tmp_path: Path) -> None:
    by_logit, by_first_stage = _ids(two_stages), _ids(two_stages, fusion=1e6)
    assert by_logit != by_first_stage
    stored = _store(two_stages, tmp_path, json.dumps({"fusion": {two_stages.index.encoder.model_id: 1e6}}))
    assert _ids(stored) == by_first_stage
    assert _ids(stored, fusion=None) == _ids(stored, fusion=0) == by_logit


def test_a_weight_stored_for_another_encoder_is_not_taken(two_stages: TwoStageSearch, tmp_path: Path) -> None:
    by_logit = _ids(two_stages)
    assert _ids(_store(two_stages, tmp_path, json.dumps({"fusion": {"another": 1e6}}))) == by_logit


@pytest.mark.parametrize("first_stage", ["hybrid", "dense", "lexical"])
def test_each_first_stage_has_its_own_weight(
    two_stages: TwoStageSearch, tmp_path: Path, first_stage: FirstStage
) -> None:
    """A huge weight brings the first stage's order back; it must come from the right key, and from no other."""
    encoder = two_stages.index.encoder.model_id
    keys = {"hybrid": f"hybrid/{encoder}", "dense": encoder, "lexical": "lexical"}
    index = two_stages.index
    query = "which drug inhibits the platelets of a heart"
    found = [c.passage.id for c in index.search(query, first_stage=first_stage)]
    assert len(found) > 2

    def ids(fusion: dict[str, float]) -> list[str]:
        search = _store(two_stages, tmp_path, json.dumps({"fusion": fusion}), first_stage)
        return [ranked.passage.id for ranked in search.search(query)]

    by_logit = ids({})
    assert by_logit != found
    index._stored_hybrid = index.hybrid  # as if it had been stored with the bi-encoder
    assert ids({keys[first_stage]: 1e6}) == found
    assert ids({key: 1e6 for name, key in keys.items() if name != first_stage}) == by_logit


def test_a_weight_for_fused_scores_is_not_taken_for_those_of_another_method(
    two_stages: TwoStageSearch, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    encoder_dir = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_dir, encoder_dir)
    (encoder_dir / "biorerank.json").write_text('{"hybrid": {"method": "weighted", "lexical_weight": 0.5}}')
    index = PassageIndex.build(
        list(two_stages.index.passages()), encoder=BiEncoder(encoder_dir, device="cpu", dtype="float32")
    )
    key = f"hybrid/{index.encoder.model_id}"
    (tmp_path / "reranker" / "biorerank.json").write_text(json.dumps({"fusion": {key: 2.5}}))
    search = TwoStageSearch(index, BioReranker(tmp_path / "reranker", device="cpu", dtype="float32"))

    def is_fused() -> bool:
        return search.search("which drug inhibits platelets")[0].fused is not None

    assert index.hybrid == index.stored_hybrid == Hybrid("weighted", 0.5)
    assert is_fused()
    index.hybrid = Hybrid("weighted", 0.5, depth=7)
    assert is_fused()
    for other in (Hybrid("weighted", 0.6), Hybrid()):
        index.hybrid = other
        assert not is_fused()


@pytest.mark.parametrize("content", [[], {"fusion": 3}, {"fusion": {"NAME": "much"}}, {"fusion": {"NAME": -1}}])
def test_damaged_settings_are_refused(two_stages: TwoStageSearch, tmp_path: Path, content: object) -> None:
    text = json.dumps(content).replace("NAME", two_stages.index.encoder.model_id)
    with pytest.raises(ModelError, match=r"biorerank\.json"):
        _ids(_store(two_stages, tmp_path, text))


def test_an_unknown_word_for_the_weight_is_refused(two_stages: TwoStageSearch) -> None:
    with pytest.raises(ValueError, match="fusion must be a number, None, 'stored', 'second-reader' or"):
        _ids(two_stages, fusion="much")


def test_the_embedded_models_store_a_weight_for_each_other() -> None:
    assert (BioReranker().stored_fusion(models.DEFAULT_ENCODER) or 0) > 0
    assert BioReranker().stored_fusion("another") is None
    assert BioReranker(fixed()).stored_fusion(models.DEFAULT_ENCODER) is None


def test_a_reranker_takes_the_stored_weight_for_what_an_index_found(two_stages: TwoStageSearch, tmp_path: Path) -> None:
    """The candidates say what their scores are, so that the two stages need not be joined by ``TwoStageSearch``."""
    encoder = two_stages.index.encoder.model_id
    reranker = _store(two_stages, tmp_path, json.dumps({"fusion": {encoder: 1e6, "other": 0.0}})).reranker
    query = "which drug inhibits platelets"
    found = two_stages.index.search(query, first_stage="dense")
    assert {candidate.first_stage for candidate in found} == {encoder}

    def ids(given: list[Candidate], **options: object) -> list[str]:
        return [r.passage.id for r in reranker.rank(query, given, **options)]  # type: ignore[arg-type]

    by_first_stage = [candidate.passage.id for candidate in found]
    by_logit = ids(found, fusion=None)
    assert ids(found) == by_first_stage != by_logit
    unnamed = [Candidate(c.passage, c.score, c.rank) for c in found]
    two_kinds = [*unnamed[:1], *found[1:]]
    assert ids(unnamed) == ids(two_kinds) == by_logit


def test_hybrid_scores_of_another_kind_have_no_name(two_stages: TwoStageSearch) -> None:
    index = two_stages.index
    assert index.scores_of("hybrid") is None  # nothing is stored with this bi-encoder
    index._stored_hybrid = index.hybrid
    assert index.scores_of("hybrid") == f"hybrid/{index.encoder.model_id}"
    index.hybrid = Hybrid("weighted", lexical_weight=0.9)
    assert index.scores_of("hybrid") is None
    assert index.scores_of("lexical") == "lexical"
    assert index.scores_of("dense") == index.encoder.model_id


def test_a_stored_template_is_the_default_and_a_given_one_wins(tiny_cross_encoder_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reranker"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    (folder / "biorerank.json").write_text(json.dumps({"template": "{text}"}), encoding="utf-8")
    passage = Passage("1", "aspirin inhibits platelets", title="the heart")
    query = "which drug inhibits platelets"

    def logit(template: str | None) -> float:
        return BioReranker(folder, device="cpu", dtype="float32", template=template).rank(query, [passage])[0].logit

    plain = BioReranker(folder, device="cpu", dtype="float32").rank(query, ["aspirin inhibits platelets"])[0].logit
    assert logit(None) == logit("{text}") == plain != logit("{title}. {text}")


@pytest.mark.parametrize("template", ['"no field"', "3", "[]"])
def test_a_damaged_template_is_named(tiny_cross_encoder_dir: Path, tmp_path: Path, template: str) -> None:
    folder = tmp_path / "reranker"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    (folder / "biorerank.json").write_text(f'{{"template": {template}}}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"biorerank\.json is damaged"):
        BioReranker(folder)


def test_the_given_order_counts_where_it_is_asked_for(tiny_cross_encoder_dir: Path, tmp_path: Path) -> None:
    reranker = rank_store(tiny_cross_encoder_dir, tmp_path / "m", '{"rank_weight": 0.5}')
    texts = ["aspirin inhibits platelets", "the heart", "insulin lowers glucose"]
    plain = {line.input_index: line for line in reranker.rank("which drug", texts)}
    ordered = {line.input_index: line for line in reranker.rank("which drug", texts, fusion="order")}
    for place, line in ordered.items():
        assert line.logit == plain[place].logit
        assert plain[place].fused is None
        assert line.fused == pytest.approx(line.logit - 0.5 * math.log(place + 1))
        assert line.retrieval_score is None
    foreign = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32").rank(
        "which drug", texts, fusion="order"
    )
    assert {one.input_index: one.fused for one in foreign} == pytest.approx(
        {place: plain[place].logit - 0.75 * math.log(place + 1) for place in plain}
    )


def test_an_order_is_no_weight_of_scores(two_stages: TwoStageSearch) -> None:
    with pytest.raises(ValueError, match="takes no scores"):
        two_stages.fusion_weight("order")
