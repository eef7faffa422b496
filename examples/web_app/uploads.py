"""A person's own documents: a private index in memory, for one browser, removed when it is not used any more."""

import tempfile
import threading
import time
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.errors import BioRerankError
from biorerank_plugins.readers import ReadReport, read_passages

MAX_FILE = 20_000_000  # bytes
MAX_PASSAGES = 3_000  # of a person: some seconds of work
MAX_SESSIONS = 100
IDLE_SECONDS = 3600.0
KINDS = (".pdf", ".txt", ".jsonl", ".json", ".tsv", ".xml")


class Session:
    """What belongs to one browser."""

    def __init__(self) -> None:
        self.index: PassageIndex | None = None
        self.files: list[dict[str, Any]] = []
        self.last: Any = None
        """What was found for the last question; a language model may be asked to write about it."""
        self.used = time.monotonic()
        self._lock = threading.Lock()

    def add(self, name: str, data: bytes) -> dict[str, Any]:
        """Read a file and index its passages.

        :raises ValueError: with a sentence for the person.
        """
        name = Path(name.replace("\\", "/")).name[:100]
        if Path(name).suffix.lower() == ".gz" or data.startswith(b"\x1f\x8b"):
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
                passages = _named(name, read_passages(path, bad_lines="skip", report=report), self._room())
            except BioRerankError as error:
                raise ValueError(str(error).replace(f"{folder}/", "")) from error
            if not passages:
                reason = report.skipped[0].reason if report.skipped else "It holds no text."
                raise ValueError(f"{name}: {reason}")
            if self.index is None:
                self.index = PassageIndex.build(passages, on_duplicate="skip")
            else:
                self.index.add(passages, on_duplicate="skip")
            self.files.append({"name": name, "passages": len(passages), "left_out": report.n_skipped})
        return self.files[-1]

    def clear(self) -> None:
        """Forget all documents."""
        with self._lock:
            if self.index is not None:
                self.index.close()
            self.index, self.files, self.last = None, [], None

    def _room(self) -> int:
        return MAX_PASSAGES - (0 if self.index is None else len(self.index))


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

    def get(self, cookie: str | None) -> tuple[str, Session]:
        """Return the session of a cookie, or a new one with its cookie."""
        with self._lock:
            now = time.monotonic()
            for key, session in sorted(self._sessions.items(), key=lambda one: one[1].used):
                if now - session.used > IDLE_SECONDS or len(self._sessions) > MAX_SESSIONS:
                    self._sessions.pop(key).clear()
            if cookie is None or cookie not in self._sessions:
                cookie = token_urlsafe(24)
                self._sessions[cookie] = Session()
            self._sessions[cookie].used = now
            return cookie, self._sessions[cookie]
