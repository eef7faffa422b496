"""The files of a folder in BEIR's layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/test.tsv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biorerank_plugins.errors import ReaderError


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """Where the parts of a test collection are.

    :param corpus: passages, for :func:`read_passages`.
    :param queries: questions, for :func:`read_queries`.
    :param qrels: judgements, for :func:`read_qrels`.
    """

    corpus: Path
    queries: Path
    qrels: Path


def find_beir(folder: str | Path, *, split: str = "test") -> BeirFolder:
    """Find the parts of a test collection; each may be gzipped.

    Judgements are ``qrels/<split>.tsv``, ``qrels.<split>.tsv``, or else the only
    other ``qrels*.tsv`` or ``qrels/*.tsv``.

    :param folder: the folder.
    :param split: which judgements, where there are several.
    :raises ReaderError: if a part is missing, or the folder has several judgement files and none of that split.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ReaderError("There is no such folder.", str(folder))
    return BeirFolder(_needed(root, "corpus.jsonl"), _needed(root, "queries.jsonl"), _qrels(root, split))


def corpus_of(folder: Path) -> Path | None:
    """Return the passages of a folder in BEIR's layout, ``None`` if it has none."""
    return _first(folder / "corpus.jsonl")


def _needed(root: Path, name: str) -> Path:
    found = _first(root / name)
    if found is None:
        raise ReaderError(f"The folder has no {name} (or {name}.gz), so it is not in BEIR's layout.", str(root))
    return found


def _first(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _qrels(root: Path, split: str) -> Path:
    for name in (f"qrels/{split}.tsv", f"qrels.{split}.tsv", "qrels.tsv"):
        if found := _first(root / name):
            return found
    patterns = ("qrels/*.tsv", "qrels/*.tsv.gz", "qrels*.tsv", "qrels*.tsv.gz")
    found_all = sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())
    if len(found_all) == 1:
        return found_all[0]
    names = ", ".join(path.relative_to(root).as_posix() for path in found_all)
    problem = f"several judgement files ({names}), none of them of the split {split!r}" if names else "no qrels/*.tsv"
    raise ReaderError(f"The folder has {problem}.", str(root))
