"""The public core against slow references: order, thresholds, what was cut, threads, time limits, bad input."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scorers import by_number, zero
from support.texts import texts_of

from biorerank_plugins import BioReranker, Candidate, PairScorer, Passage, models
from biorerank_plugins.errors import ScoringError, ScoringTimeoutError
from biorerank_plugins.testing import ScriptedScorer

QUERY = "is p53 a tumour suppressor"

# The tiny model's weights are ten times those of a trained one, and so is what rounding does to its logits.
TINY_MODEL_NOISE = 1e-4


@pytest.fixture(scope="module")
def reranker(tiny_cross_encoder_dir: Path) -> BioReranker:
    return BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")


def _logits(ranking) -> dict[str, float]:
    return {line.passage.id: line.logit for line in ranking}


# Order and values


def test_the_order_is_that_of_a_plain_sort_of_what_predict_gives(reranker):
    texts = texts_of(50)
    ranking = reranker.rank(QUERY, texts)
    scores = reranker.predict([(QUERY, text) for text in texts])
    assert [line.input_index for line in ranking] == sorted(range(50), key=lambda i: (-float(scores[i]), i))
    assert [line.rank for line in ranking] == list(range(1, 51))
    for line in ranking:
        assert line.passage.text == texts[line.input_index]
        assert line.score == pytest.approx(float(scores[line.input_index]), abs=1e-6)
        assert line.probability == pytest.approx(1 / (1 + math.exp(-line.logit)), abs=1e-12)
    assert reranker.score(QUERY, texts) == pytest.approx(scores.tolist(), abs=1e-6)


def test_ties_keep_their_input_order():
    ranking = BioReranker(by_number()).rank("q", ["1 a", "2 b", "1 c", "2 d", "0 e", "2 f"])
    assert [line.input_index for line in ranking] == [1, 3, 5, 0, 2, 4]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from("abcd")), max_size=12),
    st.none() | st.integers(1, 14),
    st.none() | st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([None, "id", ["id", "text"]]),
)
def test_every_passage_is_ranked_dropped_or_below_the_threshold(drawn, top_k, least, keys):
    passages = [Passage(name, f"{value}") for value, name in drawn]
    ranker = BioReranker(by_number())
    whole = ranker.rank("q", passages, min_score=least, deduplicate=keys)
    assert len(whole) + len(whole.dropped) + whole.below_threshold == len(passages)
    cut = ranker.rank("q", passages, min_score=least, deduplicate=keys, top_k=top_k)
    assert list(cut) == list(whole)[:top_k]
    assert (cut.below_threshold, cut.dropped) == (whole.below_threshold, whole.dropped)
    assert all(line.score >= (0.0 if least is None else least) for line in whole)
    if keys is None:
        reference = [i for i in sorted(range(len(drawn)), key=lambda i: -drawn[i][0])]
        sigmoid = [1 / (1 + math.exp(-drawn[i][0])) for i in reference]
        expected = [i for i, s in zip(reference, sigmoid, strict=True) if least is None or np.float32(s) >= least]
        assert [line.input_index for line in whole] == expected


def test_zero_is_a_threshold():
    assert len(BioReranker(by_number()).rank("q", ["-200", "1"], min_score=0.0)) == 2
    assert len(BioReranker(by_number()).rank("q", ["-200", "1"], min_probability=0.0)) == 2
    assert len(BioReranker(by_number()).rank("q", ["0", "1"], min_probability=0.5)) == 2
    assert len(BioReranker(by_number()).rank("q", ["-0.01", "1"], min_probability=0.5)) == 1
    ranking = BioReranker(by_number()).rank("q", ["-1", "1"], min_score=2)
    assert (len(ranking), ranking.below_threshold) == (0, 2)


def test_equal_passages_tie_and_keep_their_order(reranker):
    texts = ["p53 tumours", *texts_of(30), "p53 tumours", *texts_of(5), "p53 tumours"]
    equal = [line for line in reranker.rank(QUERY, texts) if line.passage.text == "p53 tumours"]
    assert len({line.logit for line in equal}) == 1
    assert [line.input_index for line in equal] == [0, 31, 37]


def test_the_batch_mix_does_not_matter(reranker, tiny_cross_encoder_dir):
    texts = texts_of(60, longest=90)
    together = _logits(reranker.rank(QUERY, texts))
    for number, text in enumerate(texts[:15]):
        [alone] = reranker.rank(QUERY, [text])
        assert alone.logit == pytest.approx(together[str(number)], abs=TINY_MODEL_NOISE)
    small = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", max_batch_tokens=1)
    assert _logits(small.rank(QUERY, texts)) == pytest.approx(together, abs=TINY_MODEL_NOISE)


@pytest.mark.slow
@pytest.mark.skipif(models.DEFAULT_RERANKER not in models.names(), reason="the embedded reranker is not here")
def test_the_batch_mix_does_not_matter_to_real_weights(no_network):
    texts = texts_of(40, longest=200)
    ranker, small = (BioReranker(device="cpu", dtype="float32", max_batch_tokens=size) for size in (None, 1))
    assert _logits(ranker.rank(QUERY, texts)) == pytest.approx(_logits(small.rank(QUERY, texts)), abs=1e-5)


def test_many_requests_give_what_each_gives_alone(reranker):
    requests = [
        (QUERY, texts_of(7)),
        ("aspirin", []),
        ("what is brca1", texts_of(3)),
        (QUERY, ["p53", "p53"]),
    ]
    many = reranker.rank_many(iter(requests), deduplicate=iter(["text"]))
    assert [ranking.query for ranking in many] == [query for query, _ in requests]
    for (query, passages), ranking in zip(requests, many, strict=True):
        alone = reranker.rank(query, passages, deduplicate="text")
        assert [line.input_index for line in ranking] == [line.input_index for line in alone]
        assert _logits(ranking) == pytest.approx(_logits(alone), abs=TINY_MODEL_NOISE)
        assert ranking.dropped == alone.dropped
    assert len(many[3].dropped) == 1
    assert reranker.rank_many([]) == []


# What comes out, and what stays as it was


def test_nothing_is_changed_and_the_output_is_json(reranker):
    passage = Passage("a", "p53 suppresses tumours", "p53", {"year": 2013, "mesh": ["x", {"y": 1}]})
    given = [Candidate(passage, np.float32(0.25), 1), Candidate(Passage("b", "x"), float("nan")), "text", passage]
    before, kept = [repr(item) for item in given], list(given)
    ranking = reranker.rank(QUERY, given)
    assert all(a is b for a, b in zip(given, kept, strict=True))
    assert [repr(item) for item in given] == before
    by_input = {line.input_index: line for line in ranking}
    assert by_input[0].passage is passage
    assert [by_input[i].retrieval_score for i in range(4)] == [0.25, None, None, None]
    for line in ranking:
        for value in (line.logit, line.score, line.probability):
            assert type(value) is float
            assert math.isfinite(value)
        assert type(line.truncated) is bool
        assert type(line.input_index) is type(line.rank) is int
    assert type(by_input[0].retrieval_score) is float
    assert json.loads(json.dumps(ranking.to_dict(), allow_nan=False))["passages"][0]["rank"] == 1


def test_the_retrieval_score_and_the_id_do_not_enter_the_text(reranker):
    ranking = reranker.rank(QUERY, [Candidate(Passage("x", "p53"), 0.9), Candidate(Passage("p53 tumours", "p53"), 0.1)])
    assert ranking[0].logit == ranking[1].logit


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_a_logit_that_is_not_finite_names_its_passages(bad):
    ranker = BioReranker(ScriptedScorer({"bad": bad}, default=0.0))
    with pytest.raises(ScoringError, match=r"no finite logit for 2 of 3 passages: x, z") as caught:
        ranker.rank("q", [Passage("x", "bad"), Passage("y", "good"), Passage("z", "bad")])
    assert caught.value.passage_ids == ("x", "z")
    with pytest.raises(ScoringError, match="1 of 2 passages: 1"):
        ranker.score("q", ["good", "bad"])
    with pytest.raises(ScoringError, match="1 of 1 passages: 0"):
        ranker.predict([("q", "bad")])


@pytest.mark.parametrize(
    ("count", "named"), [(5, "0, 1, 2, 3, 4."), (6, "0, 1, 2, 3, 4 and 1 more."), (8, "and 3 more.")]
)
def test_five_passages_without_a_finite_logit_are_named(count, named):
    ranker = BioReranker(ScriptedScorer({"bad": math.nan}, default=0.0))
    with pytest.raises(ScoringError, match=re.escape(named) + "$") as caught:
        ranker.predict([("q", "bad")] * count)
    assert len(caught.value.passage_ids) == count


@pytest.mark.parametrize("given", [[0.0], [[0.0], [1.0]], [0.0, 1.0, 2.0]])
def test_a_scorer_that_gives_another_number_of_logits_is_refused(given):
    class Wrong:
        def logits(self, query, texts):
            return given

    with pytest.raises(ScoringError, match=r"Wrong.logits gave values of shape .* for 2 texts"):
        BioReranker(Wrong()).rank("q", ["a", "b"])


def test_prefixes_and_template_reach_the_model():
    spy = zero()
    assert isinstance(spy, PairScorer)
    ranker = BioReranker(spy, template="{text} ({year})", query_prefix="Q: ", document_prefix="D:\ud800 ")
    ranker.rank("why\udfff", [Passage("1", "x", "t", {"year": 0}), "y"])
    ranker.score("why", ["z"])
    assert [(call.query, call.texts) for call in spy.calls] == [
        ("Q: why?", ("D:? x (0)", "D:? y")),
        ("Q: why", ("D:? z",)),
    ]


# Cutting


@pytest.mark.parametrize(("words", "cut"), [(100, False), (118, False), (119, True), (5000, True)])
def test_a_cut_passage_is_reported(reranker, tiny_cross_encoder_dir, words, cut):
    """128 positions: [CLS], 7 query tokens, [SEP], the passage, [SEP]."""
    cutting = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", windows=False)
    [line] = cutting.rank("a a a a a a a", ["b " * words])
    assert line.truncated == cut
    [line] = reranker.rank("a a a a a a a", ["b " * words])
    assert not line.truncated
    assert (line.n_windows > 1) == cut


def test_a_long_passage_never_cuts_the_query(tiny_cross_encoder_dir):
    lengths = {"max_length": 40, "query_max_length": 10}
    ranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", windows=False, **lengths)
    long = "cells " * 20_000
    assert len(long) > 100_000
    ranking = ranker.rank("a b c d e p53 brca1", [long, "cells"])
    assert not ranking.query_truncated
    assert [line.truncated for line in sorted(ranking, key=lambda line: line.input_index)] == [True, False]
    other = ranker.rank("a b c d e p53 insulin", [long])  # differs in the last token only
    assert other[0].logit != pytest.approx(_logits(ranking)["0"], abs=1e-4)


@pytest.mark.parametrize(("words", "read"), [(9, 9), (10, 10), (11, 11), (500, 10)])
def test_a_query_is_cut_where_it_was_said_if_the_pair_does_not_fit(tiny_cross_encoder_dir, words, read):
    ranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", query_max_length=10)
    ranking = ranker.rank("a " * words, ["cells"])
    assert ranking.query_truncated == (read < words)
    assert not ranking[0].truncated
    assert ranking[0].logit == pytest.approx(ranker.rank("a " * read, ["cells"])[0].logit, abs=1e-6)


def test_strange_text_is_scored(reranker):
    strange = ["", " ", "\ud800 lone", "\x00\x01\x1b", "😀👩‍🔬", "האם", "\u202ertl", "x" * 5000, "\n", "[SEP]"]
    ranking = reranker.rank("\ud83d strange \x00", strange)
    assert len(ranking) == len(strange)
    assert all(math.isfinite(line.logit) for line in ranking)
    assert {line.passage.text for line in ranking} == set(strange)  # as it was given, though not as it was read


def test_none_one_or_two_passages_and_a_generator(reranker):
    assert list(reranker.rank(QUERY, [])) == []
    assert len(reranker.rank(QUERY, ["p53"])) == 1
    assert len(reranker.rank(QUERY, (text for text in ["p53", "aspirin"]))) == 2
    assert reranker.predict([]).shape == (0,)
    assert reranker.score(QUERY, []) == []
    one = reranker.predict((QUERY, "p53"))
    assert one.shape == ()
    assert float(one) == reranker.score(QUERY, ["p53"])[0]


# Bad input: refused, also where there is nothing to score


@pytest.mark.parametrize("top_k", [0, -1, True, "5", 1.0, math.nan])
@pytest.mark.parametrize("passages", [[], ["p53"]])
def test_an_impossible_top_k_is_refused(reranker, passages, top_k):
    with pytest.raises(ValueError, match="top_k must be a whole number of at least 1, got"):
        reranker.rank(QUERY, passages, top_k=top_k)


@pytest.mark.parametrize("top_k", [2, np.int64(2), np.uint8(2)])
def test_a_whole_number_of_numpy_is_a_top_k(reranker, top_k):
    assert len(reranker.rank(QUERY, texts_of(3), top_k=top_k)) == 2
    assert len(reranker.rank(QUERY, texts_of(1), top_k=top_k)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"min_score": math.nan},
        {"min_score": math.inf},
        {"min_score": "0.5"},
        {"min_probability": -0.1},
        {"min_probability": 1.1},
        {"min_probability": True},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": "1"},
        {"deduplicate": "title"},
        {"deduplicate": True},
    ],
)
def test_impossible_options_are_refused(reranker, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        reranker.rank(QUERY, [], **options)


@pytest.mark.parametrize(("query", "error"), [("", ValueError), (" \n", ValueError), (None, TypeError), (5, TypeError)])
def test_a_query_that_says_nothing_is_refused(reranker, query, error):
    for call in (
        lambda: reranker.rank(query, []),
        lambda: reranker.rank(query, ["p53"]),
        lambda: reranker.score(query, []),
        lambda: reranker.predict([(query, "p53")]),
    ):
        with pytest.raises(error, match="query"):
            call()


def test_one_string_is_no_list(reranker):
    with pytest.raises(TypeError, match=r"Expected a list of passages, got str.*Put it in a list"):
        reranker.rank(QUERY, "p53 suppresses tumours")
    with pytest.raises(TypeError, match=r"Expected a list of texts, got str.*Put it in a list"):
        reranker.score(QUERY, "p53")


@pytest.mark.parametrize("pairs", [["ab", "cd", "ef"], [("a", "b", "c")], [("a", 5)], [("a", None)]])
def test_what_are_no_pairs_is_refused(reranker, pairs):
    with pytest.raises(TypeError, match=r"pairs|must be a string"):
        reranker.predict(pairs)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_length": 7}, ValueError),
        ({"max_length": True}, ValueError),
        ({"query_max_length": 0}, ValueError),
        ({"max_batch_tokens": 0}, ValueError),
        ({"template": "{title}"}, ValueError),
        ({"query_prefix": None}, TypeError),
        ({"document_prefix": 1}, TypeError),
    ],
)
def test_impossible_settings_are_refused_when_it_is_made(options, error):
    with pytest.raises(error, match=next(iter(options))):
        BioReranker(**options)


# Time, threads, tasks


def test_a_time_limit(reranker, tiny_cross_encoder_dir):
    with pytest.raises(ScoringTimeoutError, match="Scoring took too long, more than 1e-09 seconds") as caught:
        reranker.rank(QUERY, texts_of(40), timeout=1e-9)
    assert isinstance(caught.value, TimeoutError)
    assert len(reranker.rank(QUERY, texts_of(3), timeout=60)) == 3
    assert len(reranker.rank(QUERY, texts_of(3), timeout=None)) == 3


def test_threads_share_one_reranker(reranker):
    requests = [
        (query, texts_of(n, longest=length))
        for n, length in ((5, 100), (9, 3), (1, 200), (12, 30))
        for query in (QUERY, "a")
    ]
    alone = [reranker.rank(query, texts) for query, texts in requests]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for expected, got in zip(alone, pool.map(lambda request: reranker.rank(*request), requests), strict=True):
                assert _logits(got) == _logits(expected)
                assert [line.input_index for line in got] == [line.input_index for line in expected]


def test_threads_load_one_model(tiny_cross_encoder_dir):
    ranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    with ThreadPoolExecutor(8) as pool:
        scorers = list(pool.map(lambda _: (ranker.warm_up(), ranker._scorer)[1], range(8)))
    assert len({id(scorer) for scorer in scorers}) == 1


class SlowFolder(os.PathLike):
    """A folder that takes a while to name: stands for a model that takes a while to load."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __fspath__(self) -> str:
        time.sleep(0.5)
        return str(self.folder)


class SlowScorer:
    def logits(self, query, texts):
        time.sleep(0.5)
        return [float(len(text)) for text in texts]


async def _longest_pause(work) -> tuple[float, object]:
    """Longest time between two ticks of a task beside the work."""
    pauses: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    result = await work
    ticking.cancel()
    return max(pauses), result


def test_scoring_does_not_block_the_event_loop():
    ranker = BioReranker(SlowScorer())
    pause, ranking = asyncio.run(_longest_pause(ranker.arank("q", ["a", "bbb"])))
    assert pause < 0.4
    assert [line.input_index for line in ranking] == [1, 0]


def test_loading_does_not_block_the_event_loop_for_a_second_task(tiny_cross_encoder_dir):
    from biorerank_plugins.scoring.loading import load_scorer  # noqa: F401  torch is there before the clock runs

    async def twice() -> object:
        first = asyncio.create_task(ranker.arank(QUERY, ["p53", "cells"]))
        await asyncio.sleep(0.1)  # it is loading now
        return await asyncio.gather(first, ranker.arank_many([(QUERY, ["p53", "cells"])]))

    ranker = BioReranker(SlowFolder(tiny_cross_encoder_dir), device="cpu", dtype="float32")
    pause, (one, [other]) = asyncio.run(_longest_pause(twice()))
    assert pause < 0.4
    assert [line.input_index for line in one] == [line.input_index for line in other]


def test_arank_equals_rank_and_passes_errors_on(reranker):
    texts = texts_of(9)
    found = asyncio.run(reranker.arank(QUERY, texts, top_k=4))
    assert [(line.input_index, line.logit) for line in found] == [
        (line.input_index, line.logit) for line in reranker.rank(QUERY, texts, top_k=4)
    ]
    with pytest.raises(ValueError, match="The query is empty"):
        asyncio.run(reranker.arank("", texts))


def test_a_closed_reranker_says_so(tiny_cross_encoder_dir):
    with BioReranker(tiny_cross_encoder_dir, device="cpu") as ranker:
        assert ranker.model_name == str(tiny_cross_encoder_dir)
        asyncio.run(ranker.arank(QUERY, ["p53"]))
    ranker.close()
    for call in (
        lambda: ranker.rank(QUERY, ["p53"]),
        lambda: ranker.predict([(QUERY, "p53")]),
        lambda: asyncio.run(ranker.arank(QUERY, ["p53"])),
        ranker.warm_up,
    ):
        with pytest.raises(RuntimeError, match="This reranker is closed"):
            call()


def test_closing_does_not_wait_for_a_model_that_is_loading(tiny_cross_encoder_dir):
    ranker = BioReranker(SlowFolder(tiny_cross_encoder_dir), device="cpu")
    errors: list[BaseException] = []

    def load() -> None:
        try:
            ranker.warm_up()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.1)
    started = time.perf_counter()
    ranker.close()
    assert time.perf_counter() - started < 0.3
    thread.join(60)
    assert "closed" in str(errors[0])
    assert ranker._scorer is None


def test_a_progress_bar_is_drawn_on_standard_error_where_asked_for(reranker, capsys):
    reranker.rank(QUERY, texts_of(5), show_progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Reranking" in captured.err
    reranker.rank(QUERY, texts_of(5))
    assert capsys.readouterr().err == ""


def test_no_passages_do_not_load_a_model(tmp_path):
    """What is in the folder could not be loaded."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    ranker = BioReranker(folder)
    assert len(ranker.rank(QUERY, [])) == 0
    assert [len(ranking) for ranking in ranker.rank_many([(QUERY, []), ("a", [])])] == [0, 0]
    ranker.close()
    with pytest.raises(RuntimeError, match="closed"):
        ranker.rank(QUERY, [])
