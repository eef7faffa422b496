"""Collecting garbage where all libraries of all tests are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def only_new_objects_are_collected() -> Iterator[None]:
    """What was there before a test is not looked at: half a second, whenever something collects before it goes on.

    For some folders only: what tests leave behind is collected while those of the other folders run.
    """
    gc.freeze()
    yield
    gc.unfreeze()
