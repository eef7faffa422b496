"""A small server that speaks OpenAI's chat protocol; what a question says decides how it behaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "It does so in minutes [1]. Nobody else says this [9]."
SILENCE = 4.0  # seconds


@dataclass
class Serving:
    """A running server.

    :param url: its base address, as two settings would name it.
    :param requests: bodies that came, in order.
    :param keys: the Authorization headers that came with them.
    :param silent: set as soon as a slow answer has begun.
    """

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answer: str = ANSWER
    silent: threading.Event = field(default_factory=threading.Event)


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # pieces go out as they are written, not when those before them are acknowledged

    def do_POST(self) -> None:
        serving: Serving = self.server.serving  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        serving.requests.append(body)
        serving.keys.append(self.headers.get("Authorization"))
        # Not the passages: they may hold any of these words.
        question = body["messages"][-1]["content"].rsplit("Question:", 1)[-1].rsplit("Query:", 1)[-1]
        for word, behave in _BEHAVIOURS.items():
            if word in question:
                behave(self)
                return
        self.stream(serving.answer)

    def stream(self, text: str, *, reason: str | None = "stop", done: bool = True, size: int = 3) -> None:
        self.begin()
        for piece in _pieces(text, size):
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        if reason:
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if done:
            self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def begin(self, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, more: dict[str, Any]) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "small", **more}
        self.chunk(f"data: {json.dumps(event)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def error(self, status: int, message: str) -> None:
        data = json.dumps({"error": {"message": message, "type": "error"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def slow(self) -> None:
        self.begin()
        self.event({"choices": [{"index": 0, "delta": {"content": "It "}, "finish_reason": None}]})
        self.server.serving.silent.set()  # type: ignore[attr-defined]
        time.sleep(SILENCE)
        self.close_connection = True

    def break_connection(self) -> None:
        """The server dies: the connection is closed inside of an answer."""
        self.begin()
        self.event({"choices": [{"index": 0, "delta": {"content": "It does so in"}, "finish_reason": None}]})
        self.close_connection = True

    def error_inside(self) -> None:
        self.begin()
        self.event({"choices": [{"index": 0, "delta": {"content": "It does"}, "finish_reason": None}]})
        self.chunk(b'data: {"error": {"message": "out of memory"}}\n\n')
        self.chunk(b"")

    def no_protocol(self) -> None:
        self.begin("text/html")
        self.chunk(b"<html>hello</html>")
        self.chunk(b"")

    def no_json(self) -> None:
        self.begin()
        self.chunk(b"data: {broken\n\n")
        self.chunk(b"")

    def log_message(self, *_: object) -> None:
        pass


_BEHAVIOURS = {
    "(slow)": _Handler.slow,
    "(error)": lambda handler: handler.error(500, "model runner has stopped"),
    "(no model)": lambda handler: handler.error(404, "model 'small' not found"),
    "(key)": lambda handler: handler.error(401, "no key"),
    "(busy)": lambda handler: handler.error(429, "too many"),
    "(bad request)": lambda handler: handler.error(400, "context too long"),
    "(cut off)": _Handler.break_connection,
    "(silent end)": lambda handler: handler.stream("It does so", reason=None, done=False),
    "(error inside)": _Handler.error_inside,
    "(too long)": lambda handler: handler.stream("It does so", reason="length"),
    "(empty)": lambda handler: handler.stream(""),
    "(html)": _Handler.no_protocol,
    "(no json)": _Handler.no_json,
    "(thinks)": lambda handler: handler.stream("<think>Is it [7]?</think>\n\nIt does [1]."),
    "(thinks on)": lambda handler: handler.stream("<think>" + "hmm " * 200_000, size=10_000),
    "(endless)": lambda handler: handler.stream("again " * 8000, size=60),
}


@contextmanager
def serving() -> Iterator[Serving]:
    """Run a server on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = Serving(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.serving = state  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away is no news
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
