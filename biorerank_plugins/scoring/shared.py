"""One copy of a model in memory for all rerankers of a process that ask for the same; freed with the last of them."""

from __future__ import annotations

import hashlib
import os
import uuid
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from biorerank_plugins import models
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.runtime.computing import computing
from biorerank_plugins.runtime.memory import trim_memory
from biorerank_plugins.scoring.backends import where_to_compute
from biorerank_plugins.scoring.load_options import LoadOptions
from biorerank_plugins.scoring.loading import load_scorer
from biorerank_plugins.scoring.scores import Scorer


class SharedScorer:
    """A model, loaded at the first use, with those who use it; who is forgotten without leaving counts no more."""

    def __init__(self, load: Callable[[], Scorer], fingerprint: Callable[[], str]) -> None:
        self._load = load
        self._fingerprint = fingerprint
        self._scorer: Scorer | None = None
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = Lock()  # held while the model is loaded

    def open(self, user: object) -> Scorer:
        """Return the scorer, and count one more user, which holds it until it leaves."""
        with self._lock:
            if self._scorer is None:
                self._scorer = computing(self._load)
            self._users.add(user)
            return self._scorer

    def leave(self, user: object) -> None:
        """Count one user less, of those that :meth:`open` was called for; the last one closes the scorer."""
        with self._lock:
            self._users.discard(user)
            if not self._users and self._scorer is not None:
                scorer, self._scorer = self._scorer, None
                scorer.close()
                del scorer
                trim_memory()

    def fingerprint(self) -> bytes:
        """Return a hash of everything that the scores depend on: weights, precision, backend, device and lengths."""
        return hashlib.sha256(self._fingerprint().encode()).digest()


_SHARED: weakref.WeakValueDictionary[Hashable, SharedScorer] = weakref.WeakValueDictionary()
_LOCK = Lock()


def shared_scorer(options: LoadOptions) -> SharedScorer:
    """Return the scorer of a model, the same one for the same model and options while somebody holds it.

    Models that are named share, by the files in their folder as they are now or by their name on the hub. An object is
    its owner's, and is never shared.

    :raises ModelError, ValueError: as :func:`load_scorer` does.
    """
    if not options.named:
        return SharedScorer(partial(load_scorer, options), lambda: uuid.uuid4().hex)
    # "The fastest" and its name are the same.
    device, dtype = where_to_compute(options.backend, options.device, options.dtype)
    options = replace(options, device=device, dtype=dtype)
    model: Any = models.DEFAULT_RERANKER if options.model is None else options.model
    folder = resolve_folder(model)
    key = (os.fspath(model), _state(folder), torch.get_num_threads(), *options.key())
    with _LOCK:
        found = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = SharedScorer(partial(load_scorer, options), partial(_fingerprint, folder, key))
        return found


def _state(folder: Path | None) -> Hashable:
    """Return what changes when a folder's files are replaced; reading them would take as long as loading."""
    if folder is None:
        return None
    found: list[tuple[str, int, int]] = []
    for part in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        with suppress(OSError):  # one that may not be read, or a file that is gone: loading will tell if it matters
            stats = [(file, file.stat()) for file in part.iterdir() if file.is_file()]
            found += [(str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    return os.path.realpath(folder), tuple(sorted(found))


def _fingerprint(folder: Path | None, key: tuple[Hashable, ...]) -> str:
    weights = repr(key[:2]) if folder is None else models.content_hash(folder)
    return f"{weights} {key[3:]}"
