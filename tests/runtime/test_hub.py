"""A hub that does not answer costs seconds, not minutes, and the error says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

NAMES_OF_NOBODY = {
    "reranker": "from biorerank_plugins import BioReranker; BioReranker('someone/nothing').warm_up()",
    "encoder": "from biorerank_plugins import BiEncoder; BiEncoder('someone/nothing')",
}


@pytest.mark.parametrize("what", NAMES_OF_NOBODY)
def test_a_hub_name_without_network_fails_soon_and_says_what_to_do(what: str) -> None:
    # A closed port of this machine stands for the hub; offline mode is off, so that it is really asked.
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", NAMES_OF_NOBODY[what]], env=environment, capture_output=True, text=True, check=False
    )
    assert time.monotonic() - started < 45  # importing the libraries on a busy machine included; the retries took 60
    assert "ModelError" in done.stderr.splitlines()[-1] and "someone/nothing" in done.stderr.splitlines()[-1]
    assert "Embedded models" in done.stderr and "Retrying" not in done.stderr
