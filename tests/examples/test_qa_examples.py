"""Each example of a framework, from its command line: with a language model, and with one that fails.

What they and the quickstart print with no argument is in test_offline.py, where they run without sockets.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.examples import QUESTION, texts_of_gold
from support.openai_server import Serving, serving
from support.programs import run_program

from biorerank_plugins import BioReranker, models

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {"qa_llama_index": "llama_index.core", "qa_haystack": "haystack", "qa_langchain": "langchain_core"}

pytestmark = [
    pytest.mark.skipif(
        not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
        reason="the embedded models are not here",
    ),
    pytest.mark.filterwarnings("default"),  # of the frameworks, as for a person
    pytest.mark.usefixtures("weights"),
]


@pytest.fixture(scope="module")
def weights() -> Iterator[None]:
    """Rerankers of one process share their weights while one of them is open."""
    with BioReranker() as reranker:
        reranker.warm_up()
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture(params=sorted(NEEDS))
def example(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(NEEDS[request.param])
    return str(request.param)


def run(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("BIORERANK_LLM", "OPENAI"))},
        **variables,
    }
    return run_program(ROOT / "examples" / f"{name}.py", *arguments, environment=environment)


def test_a_model_writes_and_its_citations_are_checked(example: str, demo_index: Path, server: Serving) -> None:
    done = run(example, "--index", demo_index, "--llm", server.url, "--llm-model", "m")
    assert done.returncode == 0, done.stderr
    assert "It does so in minutes [1]. Nobody else says this" in done.stdout
    assert "[9]" not in done.stdout.split("Note:")[0]
    assert re.search(r"Note: Removed \[9\]: the model was given [1-5] passages", done.stdout)
    assert re.search(r"^\[1\] \S", done.stdout, re.MULTILINE)
    sent = server.requests[-1]
    prompt = sent["messages"][-1]["content"]
    assert sent["model"] == "m" and sent["stream"] is True
    assert prompt.rstrip().endswith(f"Question: {QUESTION}")
    best = re.search(r"\[1\] (.+)", prompt)
    assert best is not None and any(text[:60] in " ".join(best[1].split()) for text in texts_of_gold())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("(cut off)", "broke off"),
        pytest.param("(slow)", "silent for 1 s", marks=pytest.mark.slow),
        pytest.param("(error inside)", "stopped with an error", marks=pytest.mark.slow),
        pytest.param("(silent end)", "broke off", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_fails_leaves_the_evidence(
    example: str, demo_index: Path, server: Serving, word: str, said: str
) -> None:
    question = f"{QUESTION} {word}"
    done = run(
        example, "--index", demo_index, "--question", question, BIORERANK_LLM_URL=server.url,
        BIORERANK_LLM_MODEL="m", BIORERANK_LLM_TIMEOUT="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
    assert any(text[:60] in " ".join(done.stdout.split()) for text in texts_of_gold())


@pytest.mark.slow
def test_nobody_answers(example: str, demo_index: Path) -> None:
    done = run(example, "--index", demo_index, "--llm", "http://127.0.0.1:9/v1", "--llm-model", "m")
    assert done.returncode == 0, done.stderr
    assert "No language model answers at http://127.0.0.1:9/v1" in done.stdout
    assert re.search(r"^\[1\] 0\.\d\d ", done.stdout, re.MULTILINE)


def test_a_question_without_an_answer_in_the_collection(example: str, demo_index: Path, server: Serving) -> None:
    """No evidence, and the language model is not even asked."""
    before = len(server.requests)
    question = "Who won the football cup in 1998?"
    done = run(example, "--index", demo_index, "--question", question, "--llm", server.url, "--llm-model", "m")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No evidence" in done.stdout
    assert len(server.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--question", " "], 2, "The question is empty"),
        (["--llm", "http://127.0.0.1:9/v1"], 1, "needs a name"),
        (["--llm", "localhost", "--llm-model", "m"], 1, "must begin with http"),
    ],
)
def test_settings_that_cannot_work(example: str, options: list[str], code: int, said: str) -> None:
    done = run(example, *options)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_index_that_is_not_there(example: str, tmp_path: Path) -> None:
    done = run(example, "--index", tmp_path / "none")
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr
    assert "Traceback" not in done.stderr
