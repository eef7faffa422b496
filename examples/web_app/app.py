"""A web page that answers biomedical questions with citations, on this machine alone: python examples/web_app/app.py

Needs: pip install 'biorerank-plugins[serve,pdf]'  (and the extra llm for --llm)
"""

import argparse
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from service import Asked, Found
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uploads import MAX_FILE, Session, Sessions

from biorerank_plugins import BioReranker, PassageIndex, demo
from biorerank_plugins.answers.llm import ChatModel
from biorerank_plugins.errors import BioRerankError
from biorerank_plugins.readers import read_passages

logger = logging.getLogger("web_app")

STATIC = Path(__file__).parent / "static"
EXAMPLES = (
    "On which enzyme does vericiguat act, and does it need endogenous nitric oxide to do so?",
    "What accounts for the thickened gum epithelium in patients taking ciclosporin?",
    "Which medicine removes hypnozoites so that vivax malaria does not relapse?",
    "Who won the football world cup in 1998?",
)
MAX_REQUEST = 100_000  # bytes of a question with its settings
HEADERS = {
    # Nothing from other servers: no font, no script, no picture.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Shared:
    """What all visitors use: the collection, the reranker, perhaps a language model."""

    def __init__(self, index: PassageIndex, name: str, chat: ChatModel | None) -> None:
        self.index, self.name, self.chat = index, name, chat
        self.reranker = BioReranker()
        self.threshold = self.reranker.calibration.evidence_threshold or 0.0
        self.sessions = Sessions()

    def about(self, session: Session) -> dict[str, Any]:
        """Return what the page says before a question is asked."""
        return {
            "name": self.name,
            "passages": len(self.index),
            "examples": EXAMPLES,
            "threshold": round(self.threshold, 2),
            "llm": None if self.chat is None else self.chat.model,
            "files": session.files,
        }


router = APIRouter()


def create_app(shared: Shared, hosts: list[str]) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="biorerank", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.shared = shared
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)  # a page elsewhere must not reach in by a name
    app.middleware("http")(with_session)
    app.add_exception_handler(Exception, failed)
    return app


async def with_session(request: Request, call_next: Any) -> Response:
    """Give each browser its session, and each answer its headers."""
    origin = request.headers.get("origin")
    if request.method != "GET" and origin and origin.split("//")[-1] != request.headers.get("host"):
        return refused(403, "This request comes from another page.")
    sessions: Sessions = request.app.state.shared.sessions
    begins = request.method == "POST" and request.url.path in ("/ask", "/documents")
    cookie, request.state.session = sessions.get(request.cookies.get("session"), begins)
    response: Response = await call_next(request)
    response.headers.update(HEADERS)
    if cookie is not None:
        response.set_cookie("session", cookie, httponly=True, samesite="strict")
    return response


async def failed(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw."""
    logger.error("The request failed.", exc_info=error)
    return refused(500, "Something went wrong here. Please try again; the log of the server says what it was.")


@router.get("/")
async def page() -> Response:
    return FileResponse(STATIC / "index.html")


@router.get("/about")
async def about(request: Request) -> dict[str, Any]:
    shared: Shared = request.app.state.shared
    return shared.about(request.state.session)


@router.post("/ask")
async def ask(request: Request) -> Response:
    shared: Shared = request.app.state.shared
    session: Session = request.state.session
    try:
        given = json.loads(await body_of(request, MAX_REQUEST))
        if not isinstance(given, dict):
            raise ValueError("The request is no JSON object.")
        asked = Asked.read(given, shared.threshold)
        own = given.get("collection") == "own"
        index = session.index if own else shared.index
        if index is None:
            raise ValueError("You have not added documents yet. Add some, or search the shared collection.")
        address = session.address if own else lambda _: None
        session.last = await run_in_threadpool(Found, index, shared.reranker, asked, address)
        return JSONResponse(session.last.to_dict())
    except BioRerankError as error:
        return refused(503, str(error))
    except (ValueError, RecursionError) as error:
        is_json = not isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError))
        return refused(422, str(error) if is_json else "The request is no JSON.")


@router.post("/write")
async def write(request: Request) -> Response:
    chat, found = request.app.state.shared.chat, request.state.session.last
    if chat is None or found is None or not found.shown:
        return refused(409, "There is nothing to write about: ask a question first.")
    return StreamingResponse(found.written(chat), media_type="application/x-ndjson")


@router.post("/documents")
async def add(request: Request, name: str = "") -> Response:
    session: Session = request.state.session
    try:
        data = await body_of(request, MAX_FILE)
        added = await run_in_threadpool(session.add, name, data)
    except ValueError as error:
        return refused(422, str(error))
    return JSONResponse({"added": added, "files": session.files})


@router.get("/documents/{name}")
async def pdf(request: Request, name: str) -> Response:
    """Show one's own PDF; nobody else's is found."""
    data = request.state.session.pdf(name)
    if data is None:
        return refused(404, f"There is no PDF {name!r} among your documents.")
    headers = {"Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}", "Cache-Control": "no-store"}
    return Response(data, media_type="application/pdf", headers=headers)


@router.delete("/documents")
async def remove(request: Request, name: str | None = None) -> Response:
    """Forget one file, or all of them."""
    session: Session = request.state.session
    try:
        await (run_in_threadpool(session.clear) if name is None else run_in_threadpool(session.remove, name))
    except ValueError as error:
        return refused(422, str(error))
    return JSONResponse({"files": session.files})


def refused(status: int, sentence: str) -> Response:
    """Return an error that the page shows as it is."""
    return JSONResponse({"error": sentence}, status_code=status)


async def body_of(request: Request, limit: int) -> bytes:
    """Read a body of limited size.

    :raises ValueError: if it is larger; the rest is not read.
    """
    data = bytearray()
    chunks: AsyncIterator[bytes] = request.stream()
    async for chunk in chunks:
        data += chunk
        if len(data) > limit:
            raise ValueError(f"This is too large: {limit / 1e6:g} MB are taken at most.")
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", help="a folder that biorerank index wrote; without it, the demo collection")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--llm", help="address of a language model; $BIORERANK_LLM_URL")
    parser.add_argument("--llm-model", help="its name; $BIORERANK_LLM_MODEL")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    chat = ChatModel.from_settings(options.llm, options.llm_model)
    if options.index is None:
        print("Indexing the demo collection …", flush=True)
        index, name = PassageIndex.build(read_passages(demo.__path__[0] + "/corpus.jsonl")), "Demo collection"
    else:
        index, name = PassageIndex.load(options.index), Path(options.index).name
    shared = Shared(index, name, chat)
    shared.reranker.rank("Is it warm?", ["It is."])
    hosts = ["*"] if options.host in ("0.0.0.0", "::") else ["127.0.0.1", "localhost", options.host]
    print(f"Open http://{options.host}:{options.port} (Ctrl-C stops)", flush=True)
    uvicorn.run(create_app(shared, hosts), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
