"""Comparisons of systems that cost what they are told to."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from support.speed import Clock, request, working

from biorerank_plugins.speed.compare import COLUMNS, compare, prepared, rows
from biorerank_plugins.speed.rounds import NotPossibleError
from biorerank_plugins.speed.systems import System
from biorerank_plugins.speed.texts import Mix


def _requests(count, texts=4):
    return [request([f"{number} {text}" for text in range(texts)]) for number in range(count)]


def _of_round(seconds):
    """Seconds by the request: its texts begin with its number, and the first one warms up."""
    return lambda given: seconds[int(given.texts[0].split()[0])]


def _compare(clock, systems, count, **options):
    return compare(systems, _requests(count), mix=Mix.parse("150"), clock=clock, **options)


def test_medians_ratios_and_rates():
    clock = Clock()
    found = _compare(
        clock,
        {
            "predict": working(clock, _of_round([99.0, 4.0, 8.0, 6.0])),
            "other": working(clock, _of_round([99.0, 1.0, 4.0, 2.0])),
        },
        4,
    )
    assert found.rounds == 3
    assert found.systems["predict"].ratio == 1.0
    other = found.systems["other"]
    assert list(other.seconds) == [1.0, 4.0, 2.0]
    assert list(other.ratios) == [4.0, 2.0, 3.0]
    assert (other.median, other.ratio) == (2.0, 3.0)
    assert other.pairs_per_second == 4 / 2.0


def test_differences_of_scores_are_reported_on_one_scale():
    clock = Clock()
    one = lambda _: 1.0  # noqa: E731
    found = _compare(
        clock,
        {
            "predict": working(clock, one, score=0.5),
            "logits": working(clock, one, score=0.0, are_logits=True),
            "off": working(clock, one, score=0.75),
        },
        2,
    )
    assert {name: system.largest_difference for name, system in found.systems.items()} == {
        "predict": 0.0,
        "logits": 0.0,
        "off": 0.25,
    }


def test_a_system_that_does_not_run_is_listed():
    clock = Clock()

    def refuse(given):
        raise NotPossibleError("too much memory")

    broken = System("breaks", "float32", refuse, lambda given: given, np.asarray)
    found = _compare(clock, {"predict": working(clock, lambda _: 1.0), "broken": broken}, 2)
    assert list(found.systems) == ["predict"]
    assert found.not_possible["broken"].endswith("too much memory")


def test_the_baseline_must_be_there():
    with pytest.raises(ValueError, match="'predict' is missing"):
        _compare(Clock(), {}, 2)


def test_several_requests_at_once_share_a_round():
    clock = Clock()
    found = _compare(clock, {"predict": working(clock, lambda _: 1.0)}, 6, concurrency=2)
    assert (found.rounds, found.concurrency) == (2, 2)
    assert list(found.systems["predict"].seconds) == [2.0, 2.0]  # in turn
    assert found.systems["predict"].pairs_per_second == 8 / 2.0


@pytest.mark.parametrize("is_shared", [True, False])
def test_only_systems_made_for_it_are_called_at_the_same_time(is_shared):
    running, most = 0, 0
    lock = threading.Lock()

    def call(given):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    system = System("waits", "float32", lambda given: given, call, np.asarray, is_shared=is_shared)
    prepared(system, [_requests(3)])(0)()
    assert most == (3 if is_shared else 1)


def test_json_and_table():
    clock = Clock()
    found = _compare(
        clock, {"predict": working(clock, lambda _: 0.5), "fast": working(clock, lambda _: 0.25)}, 3, concurrency=1
    )
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["tokens_a_pair"] == {"mean": 10.0, "p5": 10.0, "p50": 10.0, "p95": 10.0, "max": 10.0}
    assert document["systems"]["fast"] == {
        "way": "works",
        "dtype": "float32",
        "median_ms": 250.0,
        "pairs_per_second": 16.0,
        "ratio": 2.0,
        "ratio_lowest": 2.0,
        "ratio_highest": 2.0,
        "ratios": [2.0, 2.0],
        "seconds": [0.25, 0.25],
        "largest_difference_of_score": 0.0,
    }
    table = rows([found])
    assert table == [
        ["150", "4", "predict", "float32", "500.0", "8", "1.00x", "1.00–1.00", "0"],
        ["150", "4", "fast", "float32", "250.0", "16", "2.00x", "2.00–2.00", "0"],
    ]
    assert all(len(line) == len(COLUMNS) for line in table)
