"""A person's own documents: a private index in memory, for one browser, removed when it is not used any more."""

import tempfile
import threading
import time
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import quote

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.errors import BioRerankError
from biorerank_plugins.readers import ReadReport, read_passages
from biorerank_plugins.readers.compression import compression_of

MAX_FILE = 20_000_000  # bytes
MAX_PASSAGES = 3_000  # of a person: some seconds of work
MAX_PDFS = 2 * MAX_FILE  # bytes of a person that are kept to be opened; what is beyond can only be searched
MAX_SESSIONS = 100
IDLE_SECONDS = 3600.0
KINDS = (".pdf", ".txt", ".md", ".jsonl", ".json", ".tsv", ".csv", ".xml", ".nbib", ".ris")


class Session:
    """What belongs to one browser."""

    def __init__(self) -> None:
        self.index: PassageIndex | None = None
        self._files: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, list[str]] = {}
        self._pdfs: dict[str, bytes] = {}
        self.last: Any = None
        """What was found for the last question; a language model may be asked to write about it."""
        self.used = time.monotonic()
        self._lock = threading.Lock()

    @property
    def files(self) -> list[dict[str, Any]]:
        """What was added, by name, in the order in which it came."""
        return list(self._files.values())

    def add(self, name: str, data: bytes) -> dict[str, Any]:
        """Read a file and index its passages; they take the place of an earlier file of that name.

        :raises ValueError: with a sentence for the person.
        """
        name = Path(name.replace("\\", "/")).name[:100]
        if Path(name).suffix.lower() == ".gz" or compression_of(data) is not None or data.startswith(b"PK\x03\x04"):
            raise ValueError(f"{name} is packed. Please unpack it first.")  # a small file may unpack to gigabytes
        if Path(name).suffix.lower() not in KINDS:
            raise ValueError(f"{name or 'This file'} is of a kind that is not read. Give one of: {', '.join(KINDS)}.")
        if not data:
            raise ValueError(f"{name} is empty.")
        report = ReadReport()
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            try:
                passages = _named(name, read_passages(path, bad_lines="skip", report=report), self._room(name))
            except BioRerankError as error:
                raise ValueError(str(error).replace(f"{folder}/", "")) from error
            if not passages:
                reason = report.skipped[0].reason if report.skipped else "It holds no text."
                raise ValueError(f"{name}: {reason}")
            replaced = self._ids.pop(name, [])
            self._pdfs.pop(name, None)
            if self.index is None:
                self.index = PassageIndex.build(passages, on_duplicate="skip")
            else:
                self.index.remove(replaced)
                self.index.add(passages, on_duplicate="skip")
            self._ids[name] = list(dict.fromkeys(passage.id for passage in passages))
            told = {"name": name, "passages": len(passages), "left_out": report.n_skipped, "replaced": bool(replaced)}
            self._files[name] = told
            if data.startswith(b"%PDF-") and sum(map(len, self._pdfs.values())) + len(data) <= MAX_PDFS:
                self._pdfs[name] = data
        return told

    def pdf(self, name: str) -> bytes | None:
        """Return a PDF as it was added; ``None`` if this person has none of that name."""
        return self._pdfs.get(name)

    def address(self, passage: Passage) -> str | None:
        """Return where the PDF of a passage opens at its page; ``None`` if it is of no PDF that is kept."""
        with self._lock:
            name = next((one for one in self._pdfs if passage.id in self._ids[one]), None)
        page = passage.metadata.get("page")
        return None if name is None or page is None else f"/documents/{quote(name, safe='')}#page={page}"

    def remove(self, name: str) -> None:
        """Forget a file.

        :raises ValueError: if there is none of that name.
        """
        with self._lock:
            if name not in self._files:
                raise ValueError(f"There is no file {name!r} among your documents.")
            del self._files[name]
            self._pdfs.pop(name, None)
            self._forget(self._ids.pop(name))

    def _forget(self, ids: list[str]) -> None:
        if self.index is None:
            return
        self.index.remove(ids)
        if not self._files:
            self.index, self.last = None, None

    def clear(self) -> None:
        """Forget all documents."""
        with self._lock:
            self.index, self.last = None, None
            self._files.clear()
            self._ids.clear()
            self._pdfs.clear()

    def _room(self, name: str) -> int:
        """Return how many passages a file of this name may have."""
        return MAX_PASSAGES - sum(len(ids) for other, ids in self._ids.items() if other != name)


def _named(name: str, passages: Any, room: int) -> list[Passage]:
    """Return the passages of a file; equal ids of two files must not meet."""
    found: list[Passage] = []
    for passage in passages:
        if len(found) >= room:
            raise ValueError(f"{name} has too much text: {MAX_PASSAGES:,} passages are kept for a person at most.")
        metadata = {"source": name, **passage.metadata}
        found.append(Passage(f"{name}#{passage.id}", passage.text, title=passage.title, metadata=metadata))
    return found


class Sessions:
    """Sessions by their cookie; the oldest go when there are too many, idle ones after an hour."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, cookie: str | None, begin: bool) -> tuple[str | None, Session]:
        """Return the session of a cookie, or a new one with its cookie.

        :param cookie: what the browser sent.
        :param begin: whether a new session is kept. Who only looks at the page gets none: requests without a cookie
            must not push out other people's documents.
        """
        with self._lock:
            now = time.monotonic()
            session = None if cookie is None else self._sessions.get(cookie)
            if session is None or cookie is None:
                if not begin:
                    return None, Session()
                self._make_room(now)
                cookie, session = token_urlsafe(24), Session()
                self._sessions[cookie] = session
            session.used = now
            return cookie, session

    def _make_room(self, now: float) -> None:
        """Let idle sessions go, and the oldest where there are too many; whoever still reads of one keeps it alive."""
        for key, session in sorted(self._sessions.items(), key=lambda one: one[1].used):
            if now - session.used > IDLE_SECONDS or len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[key]
