"""Measure ``biorerank serve`` against calling the library, and what it does under four times the load it can take.

    python -m benchmarks.speed.serving --out benchmarks/results/serving.json

Three processes: the server, the library (as many threads as there are clients), and the clients, so that the CPU time
of each is known. Library and server do the same requests in turns. On a machine of few cores clients take CPU time that
the server would have on another machine: beside pairs a second there are pairs a second of the CPU time of the server
alone, and of the library. Every answer is compared with the library's.

Then requests come at four times the rate that the server had with 8 clients, whether it answers or not. Exits with 1 if
an answer is wrong, if the server breaks, or if it does not refuse early.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common import machine, parser_of, write_result

RESULT = "serving.json"
KEYS = ("machine", "settings", "compared", "goal", "overload")

GOAL = 0.8
OVERLOAD = 4.0
TOLERANCE = 1e-4  # of a score

Answer = list[float]  # scores in the order of the texts
Call = Callable[[dict[str, Any]], tuple[int, Answer]]


def make_requests(count: int, texts: int) -> list[dict[str, Any]]:
    """Make requests with texts of the lengths of BioASQ's snippets."""
    from biorerank_plugins import models
    from biorerank_plugins.speed import texts as bench

    tokenizer = bench.tokenizer_of(models.path(models.DEFAULT_RERANKER))
    made = bench.make_requests(
        bench.read_source(None), bench.Mix.parse("bioasq"), tokenizer, count=count, candidates=texts, max_length=512
    )
    return [{"query": one.query, "texts": list(one.texts)} for one in made]


def closed_loop(call: Call, requests: Sequence[dict[str, Any]], clients: int) -> dict[str, Any]:
    """Let clients work through requests, each sending its next one when it has the answer."""
    left = iter(list(enumerate(requests)))
    lock = threading.Lock()
    found: list[tuple[int, int, Answer, float]] = []

    def client() -> None:
        while True:
            with lock:
                number, request = next(left, (None, None))
            if number is None or request is None:
                return
            began = time.perf_counter()
            status, answer = call(request)
            found.append((number, status, answer, time.perf_counter() - began))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "latencies": [seconds for *_, seconds in found],
        "statuses": Counter(str(status) for _, status, _, _ in found),
        "answers": {str(number): answer for number, status, answer, _ in found if status == 200},
    }


def open_loop(call: Call, requests: Sequence[dict[str, Any]], a_second: float, seconds: float) -> dict[str, Any]:
    """Send requests at a fixed rate, whether earlier ones were answered or not."""
    found: list[tuple[int, int, Answer, float]] = []

    def send(number: int) -> None:
        began = time.perf_counter()
        try:
            status, answer = call(requests[number % len(requests)])
        except OSError:
            status, answer = 0, []
        found.append((number, status, answer, time.perf_counter() - began))

    started = time.perf_counter()
    with ThreadPoolExecutor(200) as threads:
        for number in range(int(a_second * seconds)):
            time.sleep(max(0.0, started + number / a_second - time.perf_counter()))
            threads.submit(send, number)
    return {
        "seconds": time.perf_counter() - started,
        "sent": len(found),
        "found": [[number % len(requests), status, answer, took] for number, status, answer, took in found],
    }


def http_call(url: str) -> Call:
    """Return a call that keeps a connection a thread; the standard library's client takes the least CPU time."""
    place = urlsplit(url)
    own = threading.local()

    def call(request: dict[str, Any]) -> tuple[int, Answer]:
        body = json.dumps(request)
        for attempt in (0, 1):
            fresh = getattr(own, "connection", None) is None
            if fresh:
                own.connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=300)
            try:
                own.connection.request("POST", "/rerank", body, {"Content-Type": "application/json"})
                response = own.connection.getresponse()
                content = response.read()
                break
            except OSError:
                own.connection.close()
                own.connection = None
                if fresh or attempt:
                    raise  # one that idled too long was closed by the server; a new one must work
        if response.status != 200:
            return response.status, []
        lines = sorted(json.loads(content), key=lambda line: line["index"])
        return 200, [line["score"] for line in lines]

    return call


@contextmanager
def library_call() -> Iterator[Call]:
    """Give a call of the library, by the method that the server calls too."""
    from biorerank_plugins import BioReranker

    with BioReranker() as reranker:

        def call(request: dict[str, Any]) -> tuple[int, Answer]:
            ranking = reranker.rank(request["query"], request["texts"], fusion=None)
            return 200, [line.score for line in sorted(ranking, key=lambda line: line.input_index)]

        call({"query": "Is it warm?", "texts": ["It is."]})
        yield call


def work(role: str, url: str | None) -> None:
    """Be the library or the clients: one JSON command a line comes on stdin, one answer a line goes to stdout."""

    def answer_all(call: Call) -> None:
        requests: list[dict[str, Any]] = []
        for line in sys.stdin:
            command = json.loads(line)
            if "requests" in command:
                requests = command["requests"]
                answer: dict[str, Any] = {}
            elif "a_second" in command:
                answer = open_loop(call, requests, command["a_second"], command["seconds"])
            else:
                answer = closed_loop(call, requests, command["clients"])
            print(json.dumps(answer), flush=True)

    if role == "library":
        with library_call() as call:
            answer_all(call)
    else:
        answer_all(http_call(url or ""))


class Worker:
    """A process that does :func:`work`."""

    def __init__(self, role: str, url: str | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.speed.serving", "--role", role, *(["--url", url] if url else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **command: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Served:
    """A server process."""

    def __init__(self, *options: object) -> None:
        command = [sys.executable, "-m", "biorerank_plugins.cli", "serve", "--port", "0", "--json", "--quiet"]
        self._process = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"]

    def cpu_seconds(self) -> float:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        connection.close()
        found = re.search(r"^process_cpu_seconds_total (\S+)", page, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def close(self) -> int:
        """Stop it as an operator does; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(120)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def wrong_answers(answers: dict[str, Answer], expected: dict[str, Answer]) -> int:
    return sum(
        len(answer) != len(expected[number])
        or any(abs(one - other) > TOLERANCE for one, other in zip(answer, expected[number], strict=True))
        for number, answer in answers.items()
    )


def row(found: dict[str, Any], pairs: int, cpu: float) -> dict[str, float]:
    return {
        "pairs_per_second": pairs / found["seconds"],
        "pairs_per_cpu_second": pairs / cpu,
        "p50_seconds": statistics.median(found["latencies"]),
        "p99_seconds": quantile(found["latencies"], 0.99),
    }


def compare(args: argparse.Namespace, requests: list[dict[str, Any]], expected: dict[str, Answer]) -> dict[str, Any]:
    """Measure library and server in turns, at each number of clients."""
    pairs = sum(len(request["texts"]) for request in requests)
    server = Served("--max-waiting", 10 * pairs, "--deadline", 3600)
    library, clients = Worker("library"), Worker("clients", server.url)
    try:
        expected |= library.ask(requests=requests) or library.ask(clients=1)["answers"]
        clients.ask(requests=requests)
        clients.ask(clients=2)  # both are warm now
        rows, wrong = [], 0
        for count in args.clients:
            turns: dict[str, list[dict[str, float]]] = {"library": [], "server": []}
            client_cpu = []
            for turn in range(args.rounds):
                for name in ("library", "server") if turn % 2 == 0 else ("server", "library"):
                    before = server.cpu_seconds()
                    found = (library if name == "library" else clients).ask(clients=count)
                    cpu = found["cpu_seconds"] if name == "library" else server.cpu_seconds() - before
                    if name == "server":
                        client_cpu.append(found["cpu_seconds"] / found["seconds"])
                    wrong += wrong_answers(found["answers"], expected) + (len(found["answers"]) != len(requests))
                    turns[name].append(row(found, pairs, cpu))
            medians = {
                name: {key: statistics.median(one[key] for one in own) for key in own[0]} for name, own in turns.items()
            }
            shares = {
                key: medians["server"][f"pairs_per_{key}"] / medians["library"][f"pairs_per_{key}"]
                for key in ("second", "cpu_second")
            }
            clients_cores = statistics.median(client_cpu)
            rows.append({"clients": count, **medians, "server_share": shares, "clients_cpu_cores": clients_cores})
            print(json.dumps(rows[-1]), flush=True)
        return {"pairs": pairs, "rows": rows, "wrong_answers": wrong}
    finally:
        library.close()
        clients.close()
        server.close()


def overload(
    args: argparse.Namespace, requests: list[dict[str, Any]], expected: dict[str, Answer], capacity: float
) -> dict[str, Any]:
    """Send four times what the server can answer."""
    rate = OVERLOAD * capacity / (sum(len(request["texts"]) for request in requests) / len(requests))
    server = Served("--max-waiting", max(args.texts, round(2 * capacity)), "--deadline", 10)
    clients = Worker("clients", server.url)
    try:
        clients.ask(requests=requests)
        clients.ask(clients=2)
        done = clients.ask(a_second=rate, seconds=args.seconds)
    finally:
        clients.close()
        exit_code = server.close()
    statuses = Counter(str(status) for _, status, _, _ in done["found"])
    taken = [took for _, status, _, took in done["found"] if status == 200]
    refused = [took for _, status, _, took in done["found"] if status == 429]
    wrong = sum(wrong_answers({str(n): answer}, expected) for n, status, answer, _ in done["found"] if status == 200)
    return {
        "times_capacity": OVERLOAD,
        "requests_per_second": rate,
        "sent": done["sent"],
        "statuses": dict(statuses),
        "wrong_answers": wrong,
        "accepted_p50_seconds": statistics.median(taken) if taken else None,
        "accepted_p99_seconds": quantile(taken, 0.99) if taken else None,
        "refused_p50_seconds": statistics.median(refused) if refused else None,
        "refused_p99_seconds": quantile(refused, 0.99) if refused else None,
        "pairs_per_second": sum(status == 200 for _, status, _, _ in done["found"]) * args.texts / done["seconds"],
        "server_exit_code": exit_code,
    }


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=64, help="a round")
    parser.add_argument("--texts", type=int, default=50, help="a request")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of overload; 0 for none")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--role", choices=("library", "clients"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        work(args.role, args.url)
        return 0
    requests, expected = make_requests(args.requests, args.texts), {}
    found: dict[str, Any] = {"machine": machine()}
    found["settings"] = {name: getattr(args, name) for name in ("requests", "texts", "clients", "rounds", "seconds")}
    found["compared"] = compared = compare(args, requests, expected)
    good = compared["wrong_answers"] == 0
    found["goal"] = {"server_share_of_cpu_second": GOAL}
    found["goal"]["reached"] = all(one["server_share"]["cpu_second"] >= GOAL for one in compared["rows"])
    if args.seconds:
        capacity = max(one["server"]["pairs_per_second"] for one in compared["rows"])
        found["overload"] = over = overload(args, requests, expected, capacity)
        print(json.dumps(over))
        good &= over["wrong_answers"] == 0 and set(over["statuses"]) <= {"200", "429"} and over["server_exit_code"] == 0
        good &= "429" in over["statuses"] and over["refused_p99_seconds"] < 2
    write_result(args.out, found, KEYS)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
