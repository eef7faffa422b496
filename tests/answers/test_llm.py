"""The client of language models: whatever the server does, there is an answer or a sentence that says why not."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import needs
from support.openai_server import ANSWER, Serving, serving

from biorerank_plugins._common.versions import install_line
from biorerank_plugins.answers.llm import ChatModel, llm_error
from biorerank_plugins.errors import LLMError

pytestmark = needs("openai")
VARIABLES = ("BIORERANK_LLM_URL", "BIORERANK_LLM_MODEL", "BIORERANK_LLM_KEY", "BIORERANK_LLM_TIMEOUT")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def model(server: Serving) -> Iterator[ChatModel]:
    server.requests.clear()
    server.keys.clear()
    one = ChatModel(server.url, "small", timeout=1.0)
    yield one
    one.close()


def ask(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question: {question}"}]


def test_an_answer_comes_in_pieces(server: Serving, model: ChatModel):
    pieces = list(model.stream(ask("What?")))
    assert "".join(pieces) == ANSWER == model.complete(ask("What?"))
    assert len(pieces) > 5
    assert server.requests[0] == {"model": "small", "messages": ask("What?"), "stream": True}


def test_options_are_sent_and_a_foreign_key_is_not(server: Serving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.keys.clear()
    ChatModel(server.url + "/", "small", temperature=0).complete(ask("What?"))
    assert server.requests[-1]["temperature"] == 0
    monkeypatch.setenv("BIORERANK_LLM_KEY", "own")
    chosen = ChatModel.from_settings(server.url, "small")
    assert chosen is not None
    chosen.complete(ask("What?"))
    assert server.keys == ["Bearer none", "Bearer own"]


@pytest.mark.parametrize(
    ("question", "message", "begun"),
    [
        ("(slow)", "small was silent for 1 s. .* ask again", "It "),
        ("(error)", r"failed \(HTTP 500\): ask again. .*runner has stopped", ""),
        ("(no model)", "There is no model small at http.*, or the address lacks a /v1 .*not found", ""),
        ("(key)", "refuses the key: set BIORERANK_LLM_KEY", ""),
        ("(busy)", "too much to do, or a quota", ""),
        ("(bad request)", r"refuses the question \(HTTP 400\).*context too long", ""),
        ("(cut off)", "broke off .*Ask again", "It does so in"),
        ("(silent end)", "broke off in the middle of its answer", "It does so"),
        ("(error inside)", "stopped with an error: out of memory", "It does"),
        ("(too long)", "reached its limit of tokens: the answer is cut", "It does so"),
        ("(empty)", r"gave an empty answer \(it says: stop\)", ""),
        ("(html)", "No answer came from http.*OpenAI's protocol", ""),
        ("(no json)", "is not OpenAI's protocol .*Is the address right", ""),
        ("(endless)", "did not come to an end", "again "),
        ("(thinks on)", "small thinks without end; it gave no answer", ""),
    ],
)
def test_what_goes_wrong_is_said_after_what_came(model: ChatModel, question: str, message: str, begun: str):
    pieces: list[str] = []
    with pytest.raises(LLMError, match=message) as raised:
        for piece in model.stream(ask(question)):
            pieces.append(piece)
    text = "".join(pieces)
    assert (text[:6] == begun) if question == "(endless)" else (text == begun)
    assert "\n" not in str(raised.value)
    assert model.complete(ask("And now?")) == ANSWER  # the next question is answered


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model = ChatModel(f"http://127.0.0.1:{port}/v1", "small", timeout=2)
    with pytest.raises(LLMError, match=r"No language model answers at http://127.* \(.*refused.*\)\. Is its server"):
        model.complete(ask("What?"))


def test_thoughts_are_left_out(model: ChatModel):
    assert model.complete(ask("(thinks)")) == "It does [1]."


def test_a_reader_may_stop_early(model: ChatModel):
    pieces = model.stream(ask("What?"))
    assert next(pieces) == ANSWER[:3]
    pieces.close()
    assert model.complete(ask("What?")) == ANSWER


@pytest.mark.parametrize(
    ("url", "name", "message"),
    [("localhost:11434", "small", "must begin with http"), ("http://x/v1", " ", "no name")],
)
def test_impossible_settings_are_refused(url: str, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        ChatModel(url, name)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert ChatModel.from_settings() is None
    monkeypatch.setenv("BIORERANK_LLM_MODEL", "small")
    assert ChatModel.from_settings() is None
    monkeypatch.setenv("BIORERANK_LLM_URL", "http://localhost:1/v1/")
    monkeypatch.setenv("BIORERANK_LLM_TIMEOUT", "7.5")
    chosen = ChatModel.from_settings()
    assert chosen is not None
    assert (chosen.base_url, chosen.model, chosen.timeout) == ("http://localhost:1/v1", "small", 7.5)
    assert ChatModel.from_settings("", "other") is None
    monkeypatch.setenv("BIORERANK_LLM_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="BIORERANK_LLM_TIMEOUT must be a number of seconds"):
        ChatModel.from_settings()
    monkeypatch.delenv("BIORERANK_LLM_MODEL")
    with pytest.raises(ValueError, match="set BIORERANK_LLM_MODEL"):
        ChatModel.from_settings()


def test_errors_are_found_below_those_of_a_framework():
    try:
        try:
            raise LLMError("The model is asleep.")
        except LLMError as error:
            raise RuntimeError("component 'llm' failed") from error
    except RuntimeError as wrapped:
        assert str(llm_error(wrapped, "http://x/v1", "small")) == "The model is asleep."
    assert "silent for too long" in str(llm_error(TimeoutError(), "http://x/v1", "small"))


def test_without_the_package_the_error_names_the_pip_line():
    program = (
        "import sys\nsys.modules['openai'] = None\n"
        "from biorerank_plugins.errors import MissingExtraError\nfrom biorerank_plugins.answers.llm import ChatModel\n"
        "try:\n    ChatModel('http://x/v1', 'small')\nexcept MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith(install_line("llm")), done.stderr
