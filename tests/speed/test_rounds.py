"""Times in turns, with a clock that systems move."""

from __future__ import annotations

import pytest
from support.speed import Clock

from biorerank_plugins.errors import ModelError
from biorerank_plugins.speed.rounds import NotPossibleError, fastest, measure, ratios, reason_of


def _system(clock, seconds, log=None, name=""):
    """Takes ``seconds(round)``; notes when it is called."""

    def of_round(number):
        def call():
            if log is not None:
                log.append(name)
            clock.now += seconds(number)

        return call

    return of_round


def test_every_system_once_a_round_and_the_order_alternates():
    clock, log = Clock(), []
    systems = {name: _system(clock, lambda _: 1.0, log, name) for name in "abc"}
    done = []
    measure(systems, 3, clock=clock, on_round=done.append)
    assert "".join(log) == "abccbaabc"
    assert done == [1, 2, 3]


def test_times_and_ratios_are_those_of_the_same_round():
    clock = Clock()
    times = measure(
        {"slow": _system(clock, lambda n: [4.0, 8.0, 6.0][n]), "fast": _system(clock, lambda n: [1.0, 4.0, 2.0][n])},
        3,
        clock=clock,
    )
    assert times.seconds == {"slow": [4.0, 8.0, 6.0], "fast": [1.0, 4.0, 2.0]}
    assert ratios(times.seconds["slow"], times.seconds["fast"]) == [4.0, 2.0, 3.0]
    assert times.failed == {}


def test_what_is_prepared_is_not_timed():
    clock = Clock()

    def of_round(_):
        clock.now += 100  # building the host's documents

        def call():
            clock.now += 2

        return call

    assert measure({"a": of_round}, 2, clock=clock).seconds == {"a": [2.0, 2.0]}


@pytest.mark.parametrize("while_preparing", [True, False])
def test_a_system_that_raises_is_left_out_and_the_others_go_on(while_preparing):
    clock = Clock()

    def breaks(number):
        def call():
            if number == 1:
                raise MemoryError("too large\nsecond line")

        if while_preparing:
            call()
        return call

    times = measure({"breaks": breaks, "works": _system(clock, lambda _: 1.0)}, 3, clock=clock)
    assert times.seconds == {"works": [1.0, 1.0, 1.0]}
    assert times.failed == {"breaks": "MemoryError: too large"}


def test_the_fastest_comes_first():
    clock = Clock()
    systems = {"b": _system(clock, lambda _: 2.0), "a": _system(clock, lambda _: 1.0)}
    assert list(fastest(systems, 2, clock=clock).seconds) == ["a", "b"]


def test_no_round_is_an_error():
    with pytest.raises(ValueError, match="at least one round"):
        measure({}, 0)


def test_reasons_are_one_line_and_foreign_errors_are_named():
    def raised(error):
        try:
            raise error
        except Exception as caught:
            return reason_of(caught)

    assert raised(OSError("no such file\nhelp")) == "OSError: no such file"
    assert raised(KeyError()) == "KeyError: no message"
    # Raised in this file, not in the package: named too.
    assert raised(ModelError("none")) == "ModelError: none"
    try:
        measure({}, 0)
    except ValueError as error:
        assert reason_of(error) == str(error)
    assert raised(NotPossibleError("x")).endswith("x")
