"""A hub that does not answer costs seconds, not minutes, and the error says what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time, traceback
from biorerank_plugins import BiEncoder, BioReranker
for load in (lambda: BioReranker("someone/nothing").warm_up(), lambda: BiEncoder("someone/nothing")):
    started = time.monotonic()
    try:
        load()
    except Exception as error:
        traceback.print_exception(error)
    print(time.monotonic() - started)
    print("----", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[float, str]]:
    """Seconds, and what was written to stderr, by what was loaded; in one process, which imports the libraries once."""
    # A closed port of this machine stands for the hub; offline mode is off, so that it is really asked.
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    seconds, errors = map(float, done.stdout.split()), done.stderr.split("----\n")
    return dict(zip(("reranker", "encoder"), zip(seconds, errors, strict=False), strict=True))


@pytest.mark.parametrize("what", ["reranker", "encoder"])
def test_a_hub_name_without_network_fails_soon_and_says_what_to_do(what: str, told: dict[str, tuple[float, str]]):
    seconds, errors = told[what]
    assert seconds < 45  # importing the libraries on a busy machine included; the retries took 60
    assert "ModelError" in errors.splitlines()[-1] and "someone/nothing" in errors.splitlines()[-1]
    assert "Embedded models" in errors and "Retrying" not in errors
