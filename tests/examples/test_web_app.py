"""The web page in a real browser, and its server by itself."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from support.examples import QUESTION
from support.openai_server import Serving, serving

from biorerank_plugins import PassageIndex, models
from biorerank_plugins.answers.llm import ChatModel

for needed in ("fastapi", "uvicorn", "pypdf"):
    pytest.importorskip(needed)
import uvicorn  # noqa: E402  (only where it is installed)

pytestmark = pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)
APP = Path(__file__).resolve().parents[2] / "examples" / "web_app" / "app.py"


class Page:
    """The server as a program without a browser sees it: a session of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookie = ""

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, body, {"Cookie": self.cookie, **headers}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                self.cookie = (response.headers["Set-Cookie"] or self.cookie).split(";")[0]
                data = response.read()
                return response.status, json.loads(data) if data[:1] in (b"{", b"[") else data.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def ask(self, question: str, **settings: Any) -> tuple[int, Any]:
        asked = {"question": question, "candidates": 20, **settings}
        return self.call("POST", "/ask", json.dumps(asked).encode())


def started(*options: str) -> tuple[subprocess.Popen[str], str]:
    """Start the program, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BIORERANK_LLM")} | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(APP), "--port", str(port), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/about", timeout=5).close()
            return process, url
        except OSError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.1)
    raise AssertionError("The server did not start.")


@pytest.fixture(scope="module")
def model() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    """The program as a module, with its folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(APP.parent))
        yield importlib.import_module("app")


@pytest.fixture(scope="module")
def index(demo_index: Path) -> Iterator[PassageIndex]:
    with PassageIndex.load(demo_index) as loaded:
        yield loaded


@contextmanager
def served(app: ModuleType, index: PassageIndex, chat: ChatModel | None) -> Iterator[str]:
    """Serve the application in a thread; two of them share the collection and the reranker's weights."""
    shared = app.Shared(index, "Demo collection", chat)
    shared.reranker.warm_up()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app.create_app(shared, ["127.0.0.1", "localhost"]), log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            shared.reranker.close()


@pytest.fixture(scope="module")
def url(app: ModuleType, index: PassageIndex) -> Iterator[str]:
    with served(app, index, None) as address:
        yield address


@pytest.fixture(scope="module")
def writing(app: ModuleType, index: PassageIndex, model: Serving) -> Iterator[str]:
    with served(app, index, ChatModel(model.url, "local")) as address:
        yield address


# The server


def test_an_answer_rests_on_the_cards(url: str):
    status, found = Page(url).ask(QUESTION, top_k=4)
    assert status == 200
    texts = {card["number"]: "".join(part["text"] for part in card["parts"]) for card in found["cards"]}
    assert found["answer"]
    assert all(line["text"] in texts[line["number"]] for line in found["answer"])
    assert all(card["probability"] >= 0.28 for card in found["cards"])
    marked = [part for card in found["cards"] for part in card["parts"] if part["evidence"]]
    assert len(marked) >= len(found["answer"])
    assert [line["rank"] for line in found["after"]] == [1, 2, 3, 4]
    places = {line["id"]: line["rank"] for line in found["before"]}
    assert all(places.get(line["id"], line["other"]) == line["other"] for line in found["after"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"question": "   "}, "type a question"),
        ({}, "type a question"),
        ({"question": "x" * 10_001}, "10,001 characters"),
        ({"question": "q", "years": [2020, 1990]}, "first year is after"),
        ({"question": "q", "candidates": "many"}, "is no number"),
        ({"question": "q", "candidates": float("inf")}, "is no number"),
        ({"question": "q", "years": [float("-inf"), None]}, "is no number"),
        ({"question": "q", "threshold": 10**400}, "is no number"),
        ({"question": "q", "collection": "own"}, "not added documents"),
        ([1], "no JSON object"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_in_a_sentence(url: str, given: Any, message: str):
    status, said = Page(url).call("POST", "/ask", json.dumps(given).encode())
    assert (status, message in said["error"]) == (422, True), said


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_json_is_refused(url: str, body: bytes):
    assert Page(url).call("POST", "/ask", body)[0] == 422


def test_a_long_and_a_foreign_question_get_a_note(url: str):
    assert any("characters" in note for note in Page(url).ask("Does it? " * 1000)[1]["notes"])
    assert any(
        "English" in note for note in Page(url).ask("Welche Medikamente werden bei Gicht eingesetzt?")[1]["notes"]
    )


def test_no_evidence_is_said(url: str):
    found = Page(url).ask("Who won the football world cup in 1998?")[1]
    assert found["cards"] == [] and found["answer"] == []
    assert 0 < found["best"] < 0.3
    assert Page(url).ask(QUESTION, years=[1901, 1902])[1]["found"] == 0


def pdf_with(*pages: str) -> bytes:
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    stream = io.BytesIO()
    sheet = canvas.Canvas(stream)
    for text in pages:  # without a heading a paragraph would go on over the page
        sheet.setFont("Helvetica-Bold", 18)
        sheet.drawString(50, 730, f"{text.split()[0]} in the house")
        sheet.setFont("Helvetica", 11)
        sheet.drawString(50, 700, text)
        sheet.showPage()
    sheet.save()
    return stream.getvalue()


MICE = ("Rats of line Q2 sleep at noon, as all rats of this house do.", "Mice of line R5 grow fast in the dark.")


def opened(url: str, cookie: str, path: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url + path, headers={"Cookie": cookie})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("name", ["mice.pdf", "Mäuse 100% #1?.pdf", "x.txt"])
def test_a_pdf_opens_at_its_page_for_its_owner_alone(url: str, name: str):
    """A PDF is told by its content; what else is kept of a name is of no matter to others."""
    mine, data = Page(url), pdf_with(*MICE)
    path = f"/documents/{quote(name, safe='')}"
    assert mine.call("POST", f"/documents?name={quote(name)}", data)[0] == 200
    cards = mine.ask("Do mice of line R5 grow fast?", collection="own", threshold=0)[1]["cards"]
    assert [card["opens"] for card in cards if "Mice" in card["parts"][0]["text"]] == [f"{path}#page=2"]
    status, headers, body = opened(url, mine.cookie, path)
    assert (status, body) == (200, data)
    assert (headers["content-type"], headers["cache-control"]) == ("application/pdf", "no-store")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == f"inline; filename*=UTF-8''{quote(name, safe='')}"
    other = Page(url)
    other.call("POST", "/documents?name=note.txt", b"A note of somebody else.")
    assert other.cookie != mine.cookie
    for cookie in (other.cookie, "", "session=guessed"):
        status, _, body = opened(url, cookie, path)
        assert (status, b"%PDF" in body) == (404, False)


def test_a_pdf_is_replaced_and_forgotten_with_its_passages(url: str):
    mine = Page(url)
    first, second = pdf_with(*MICE), pdf_with("Mice of line R6 grow slowly.")
    for data in (first, second):
        assert mine.call("POST", "/documents?name=p.pdf", data)[0] == 200
        assert opened(url, mine.cookie, "/documents/p.pdf")[2] == data
    mine.call("POST", "/documents?name=note.txt", b"Mice of line R6 are white.")
    assert opened(url, mine.cookie, "/documents/note.txt")[0] == 404, "a note is no PDF"
    assert mine.call("DELETE", "/documents?name=p.pdf")[0] == 200
    assert opened(url, mine.cookie, "/documents/p.pdf")[0] == 404
    mine.call("POST", "/documents?name=p.pdf", first)
    assert mine.call("DELETE", "/documents")[0] == 200
    assert opened(url, mine.cookie, "/documents/p.pdf")[0] == 404


def test_what_cannot_be_opened_has_no_address(url: str, app: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Passages that only say they were of a PDF, the shared collection, and PDFs beyond what is kept of a person."""
    mine, data = Page(url), pdf_with(*MICE)
    monkeypatch.setattr(sys.modules["uploads"], "MAX_PDFS", len(data))
    says_so = {"id": "1", "text": "Mice of line R5 grow fast.", "metadata": {"source": "p.pdf", "page": 1}}
    for name, sent in (("p.pdf", data), ("q.pdf", data), ("a.jsonl", json.dumps(says_so).encode())):
        assert mine.call("POST", f"/documents?name={name}", sent)[0] == 200
    cards = mine.ask("Do mice of line R5 grow fast?", collection="own", threshold=0, top_k=9)[1]["cards"]
    assert (
        sorted(str(card["opens"]) for card in cards)
        == ["/documents/p.pdf#page=1", "/documents/p.pdf#page=2"] + ["None"] * 3
    )
    assert opened(url, mine.cookie, "/documents/q.pdf")[0] == 404
    assert {card["opens"] for card in mine.ask(QUESTION)[1]["cards"]} == {None}


def test_documents_belong_to_one_visitor(url: str):
    mine, other = Page(url), Page(url)
    note = b"Zebrafish of line Q17 lose their stripes when the gene stripeless is silenced."
    status, said = mine.call("POST", "/documents?name=..%2F..%2Fnote.txt", note)
    assert (status, said["added"]["name"], said["added"]["passages"]) == (200, "note.txt", 1)
    assert mine.call("POST", "/documents?name=p.pdf", pdf_with("Mice of line R5 grow fast."))[0] == 200
    question = "When do zebrafish lose their stripes?"
    found = mine.ask(question, collection="own", threshold=0)[1]
    assert found["cards"][0]["title"].startswith("Zebrafish of line Q17")
    assert {card["place"].split(",")[0] for card in found["cards"]} == {"source note.txt", "source p.pdf"}
    assert other.ask(question, collection="own")[0] == 422
    assert "Q17" not in json.dumps(other.ask(question, threshold=0)[1])
    changed = b"Zebrafish of line Q17 lose their stripes in the cold."
    said = mine.call("POST", "/documents?name=note.txt", changed)[1]
    assert (said["added"]["replaced"], len(said["files"])) == (True, 2)
    texts = ["".join(p["text"] for p in card["parts"]) for card in mine.ask(question, collection="own")[1]["cards"]]
    assert changed.decode() in texts and note.decode() not in texts
    assert [one["name"] for one in mine.call("DELETE", "/documents?name=note.txt")[1]["files"]] == ["p.pdf"]
    assert mine.call("DELETE", "/documents?name=note.txt")[0] == 422
    assert mine.call("DELETE", "/documents")[1] == {"files": []}
    assert mine.ask(question, collection="own")[0] == 422


def test_visits_without_a_question_do_not_push_out_documents(url: str):
    mine = Page(url)
    assert mine.call("POST", "/documents?name=note.txt", b"Zebrafish lose their stripes.")[0] == 200
    for _ in range(120):
        visitor = Page(url)
        assert visitor.call("GET", "/about")[0] == 200
        assert visitor.cookie == ""
    assert [one["name"] for one in mine.call("GET", "/about")[1]["files"]] == ["note.txt"]


def test_references_for_a_reference_manager(url: str):
    forms = Page(url).ask(QUESTION)[1]["cards"][0]["references"]
    assert list(forms) == ["Text", "BibTeX", "RIS"]
    assert forms["BibTeX"].startswith("@article{") and forms["BibTeX"].count("{") == forms["BibTeX"].count("}")
    lines = forms["RIS"].splitlines()
    assert lines[0] == "TY  - JOUR" and lines[-1] == "ER  - " and all(line[2:6] == "  - " for line in lines)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("photo.png", b"\x89PNG", "kind that is not read"),
        ("", b"x", "kind that is not read"),
        ("a.xml.gz", b"\x1f\x8b", "unpack it first"),
        ("a.jsonl", b"\x1f\x8b\x08", "unpack it first"),
        ("a.jsonl", b"\xfd7zXZ\0", "unpack it first"),
        ("a.txt", b"PK\x03\x04", "unpack it first"),
        ("a.txt", b"", "is empty"),
        ("a.pdf", b"%PDF-1.7 nothing", "damaged"),
        ("a.xml", b"<other/>", "PubMed XML"),
        ("a.jsonl", b"{", "Not valid JSON"),
        ("a.txt", b"x" * 20_000_001, "too large"),
        ("a.jsonl", b'{"id": 1, "text": "a"}\n' * 1, None),
    ],
)
def test_documents_that_cannot_be_read(url: str, name: str, data: bytes, message: str | None):
    status, said = Page(url).call("POST", f"/documents?name={name}", data)
    if message is None:
        assert status == 200
        return
    assert (status, message in said["error"]) == (422, True), said
    assert "/tmp" not in said["error"]


def test_other_pages_and_names_are_refused(url: str):
    assert Page(url).call("POST", "/ask", b"{}", Origin="http://evil.example")[0] == 403
    with pytest.raises(ValueError):  # no JSON: the framework's own answer
        Page(url).call("GET", "/about", Host="evil.example")
    with urllib.request.urlopen(url) as response:
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert response.headers["Set-Cookie"] is None, "a session begins with the first question or document"
    asked = urllib.request.Request(url + "/ask", json.dumps({"question": QUESTION}).encode(), method="POST")
    with urllib.request.urlopen(asked) as response:
        assert "HttpOnly" in response.headers["Set-Cookie"]


def test_two_visitors_at_once(url: str):
    answers: dict[str, Any] = {}
    questions = [QUESTION, "What accounts for the thickened gum epithelium in patients taking ciclosporin?"] * 3

    def ask(number: int, question: str) -> None:
        answers[f"{number}"] = (question, Page(url).ask(question, candidates=10)[1]["after"])

    alone = {question: Page(url).ask(question, candidates=10)[1]["after"] for question in set(questions)}
    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(after == alone[question] for question, after in answers.values())


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


def _ready(page: Any) -> None:
    """Wait until a question can be asked; fewer candidates than the page suggests are read."""
    page.wait_for_selector(".examples button")
    page.locator("#candidates").evaluate("slider => { slider.value = 10; }")  # it is folded away


@pytest.fixture
def tab(browser: Any, url: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme="light")
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    _ready(page)
    yield page
    assert errors == []
    assert [one for one in asked if not one.startswith((url, "data:"))] == [], "nothing comes from elsewhere"
    context.close()


def test_asking_and_reading(tab: Any):
    tab.fill("#question", QUESTION)
    tab.press("#question", "Enter")
    tab.wait_for_selector("#result:not([hidden])")
    assert tab.locator(".card").count() >= 2
    sentence = tab.locator("#answer").inner_text().split(" [")[0]
    assert sentence in tab.locator("#card-1").inner_text()
    assert sentence in tab.locator("#card-1 mark").first.inner_text()
    assert re.fullmatch(r"\d+ %", tab.locator("#card-1 .probability").inner_text().strip())
    link = tab.locator("#card-1 a").first.get_attribute("href")
    assert re.fullmatch(r"https://pubmed\.ncbi\.nlm\.nih\.gov/\d+/", link)
    tab.locator("#answer .cite").first.click()
    assert tab.evaluate("document.activeElement.id") == "card-1"
    assert parse_qs(urlsplit(tab.url).query)["q"] == [QUESTION]
    assert tab.locator("#asked li").inner_text() == QUESTION
    tab.locator("#card-1 .reference summary").click()
    assert "PMID" in tab.locator("#card-1 .reference p").first.inner_text()
    assert tab.locator("#before li").count() == tab.locator("#after li").count() == 5
    assert "ms" in tab.locator("#timings").inner_text()


def test_filters_examples_and_no_evidence(tab: Any):
    tab.locator(".examples button").last.click()
    tab.wait_for_selector("#result:not([hidden])")
    assert "No evidence" in tab.locator("#answer").inner_text()
    assert tab.locator(".card").count() == 0
    tab.locator("#more > summary").click()
    tab.locator("#threshold").fill("0")
    tab.locator("#send").click()
    tab.wait_for_selector(".card")
    tab.locator("#top_k").fill("2")
    tab.fill("#question", QUESTION)
    tab.locator("#send").click()
    tab.locator(".card").nth(2).wait_for(state="detached")
    assert tab.locator(".card").count() == 2
    tab.locator("#from").fill("2020")
    tab.locator("#to").fill("2010")
    tab.locator("#send").click()
    tab.wait_for_selector("#error:not([hidden])")
    assert "first year is after" in tab.locator("#error").inner_text()


def test_own_documents_and_markup_in_them(tab: Any, tmp_path: Path):
    note = tmp_path / "note.txt"
    note.write_text("<script>document.title='taken'</script><b>Zebrafish</b> lose stripes when silenced.", "utf-8")
    tab.locator("#more > summary").click()
    tab.set_input_files("#files", [str(note)])
    tab.wait_for_selector("#mine li")
    assert tab.locator("#mine li").inner_text().startswith("note.txt: 1 passages")
    tab.locator("#threshold").fill("0")
    tab.fill("#question", "When do zebrafish lose stripes?")
    tab.press("#question", "Enter")
    tab.wait_for_selector(".card")
    assert "<b>Zebrafish</b>" in tab.locator(".card").inner_text()
    assert tab.title() != "taken"
    bad = tmp_path / "photo.png"
    bad.write_bytes(b"\x89PNG")
    tab.set_input_files("#files", [str(bad)])
    tab.wait_for_selector("#error:not([hidden])")
    assert "kind that is not read" in tab.locator("#error").inner_text()
    tab.locator("#clear").click()
    tab.wait_for_selector("#mine li", state="detached")
    assert tab.locator("#own").is_disabled()


def test_a_citation_opens_its_pdf_at_the_page(tab: Any, tmp_path: Path):
    paper = tmp_path / "mice of R5.pdf"
    paper.write_bytes(pdf_with(*MICE))
    tab.locator("#more > summary").click()
    tab.set_input_files("#files", [str(paper)])
    tab.wait_for_selector("#mine li")
    tab.locator("#threshold").fill("0")
    tab.fill("#question", "Do mice of line R5 grow fast?")
    tab.press("#question", "Enter")
    link = tab.locator(".card", has_text="grow fast in the dark").locator("a.opens")
    link.wait_for()
    assert link.inner_text() == "source mice of R5.pdf, page 2, section Mice in the house"
    with tab.context.expect_page() as opening:
        link.click()
    shown = opening.value
    shown.wait_for_load_state()
    assert shown.url.endswith("/documents/mice%20of%20R5.pdf#page=2")
    assert shown.evaluate("document.contentType") == "application/pdf", "it is shown, not downloaded"
    assert tab.locator(".card").count() >= 1, "the answer stays where it was"


def test_a_phone_the_keyboard_and_the_dark(tab: Any):
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.locator("body").press("/")
    assert tab.evaluate("document.activeElement.id") == "question"
    tab.keyboard.type(QUESTION)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "send"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#result:not([hidden])")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    tab.locator("#theme").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate(ground) != light
    tab.reload()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark", "the choice is kept"


def test_the_server_goes_away(browser: Any):
    """The program itself: it indexes the demo collection, serves, and ends with a signal."""
    process, address = started()
    assert json.loads(urllib.request.urlopen(address + "/about").read())["name"] == "Demo collection"
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector(".examples button")
    process.terminate()
    process.communicate(timeout=30)
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector("#error:not([hidden])")
    assert "does not answer" in page.locator("#error").inner_text()
    page.close()


@pytest.mark.parametrize(
    ("word", "shown", "note"),
    [
        ("", "It does so in minutes [1]. Nobody else says this", r"Removed \[9\]"),
        ("(cut off)", "It does so in", "broke off"),
    ],
)
def test_a_language_model_writes_or_fails(browser: Any, writing: str, word: str, shown: str, note: str):
    page = browser.new_page()
    page.goto(writing)
    _ready(page)
    page.fill("#question", f"{QUESTION} {word}")
    page.press("#question", "Enter")
    page.wait_for_selector("#written-notes li")
    assert shown in page.locator("#written-text").inner_text()
    assert re.search(note, page.locator("#written-notes").inner_text())
    assert page.locator("#answer").inner_text().strip(), "the evidence stays"
    assert page.locator(".card").count() >= 1
    page.close()
