"""Checkpoints that can be trusted: whose they are, which one is whole, and what a full disk leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.files import write_json
from biorerank_plugins.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

FINGERPRINT = "recipe.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# torch and safetensors write by themselves and tell the operating system's reason in words, if at all.
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed", "unexpected pos")


def claim(folder: Path, fingerprint: Mapping[str, Any]) -> None:
    """Take a folder of checkpoints for one recipe, its rows and its settings; the first run writes them down.

    :raises ModelError: if the checkpoints there belong to something else; says what differs.
    """
    path = folder / FINGERPRINT
    begun = any(folder.glob("**/checkpoint-*")) or any(folder.glob("run-*.json"))
    if not begun:  # perhaps a run was here that failed before its first checkpoint: it binds nobody
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, fingerprint)
        return
    if not path.exists():
        raise ModelError(
            f"{folder} holds checkpoints, but no {FINGERPRINT} says what they were trained on. Choose another "
            "folder, or start afresh (fresh=True, --fresh), which deletes them."
        )
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}). Start afresh (fresh=True, --fresh), or delete it.") from error
    differing = list(_differences(there, json.loads(json.dumps(fingerprint))))
    if differing:
        raise ModelError(
            f"The checkpoints in {folder} are of another run: {'; '.join(differing[:5])}. Use the same recipe, rows "
            "and settings to go on, choose another folder, or start afresh (fresh=True, --fresh)."
        )


def _differences(there: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*there, *now]):
            yield from _differences(there.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif there != now:
        yield f"{name} was {_short(there)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def clear(out: Path) -> None:
    """Delete what earlier runs left in a folder, and nothing else."""
    if not (out / "checkpoints").is_dir():
        return
    for path in (out / "checkpoints", out / "model", *out.glob("model-run-*")):
        shutil.rmtree(path, ignore_errors=True)
    (out / "training.json").unlink(missing_ok=True)


def rows_hash(rows: Sequence[Any]) -> str:
    """Return a hash of rows (dataclasses) in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def last_checkpoint(folder: Path) -> str | None:
    """Return the last whole checkpoint, ``None`` if there is none: the trainer writes its state last."""
    whole = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return str(max(whole, key=_step)) if whole else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # cut short: killed, or the disk was full
        return False
    return isinstance(state, dict) and state.get("global_step") == _step(checkpoint)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def check_room(folder: Path, n_parameters: int) -> None:
    """Refuse to start where not even one checkpoint fits: weights and the two moments of AdamW, in fp32."""
    needed, free = 3 * 4 * n_parameters, shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder} has {free / 1e9:.2f} GB free, but one checkpoint takes {needed / 1e9:.2f} GB (and three of them "
            "are there for a moment). Free some space, or choose a folder on another disk."
        )


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn the many ways in which a full disk shows into one clear error, and drop half-written checkpoints."""
    try:
        yield
    except Exception as error:
        for checkpoint in folder.glob("checkpoint-*"):
            if not _is_whole(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)
        if not _is_full_disk(error):
            raise
        last = last_checkpoint(folder)
        kept = f"The last good checkpoint is {last}" if last else "There was no checkpoint yet"
        raise ModelError(
            f"The disk is full: {folder} could not be written. {kept}. Free some space and start again with the same "
            "settings: training goes on from there."
        ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        is_told = any(words in str(error) for words in _FULL_WORDS)
        if is_told or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def save_model(model: CrossEncoder | SentenceTransformer, folder: Path) -> None:
    """Save a model; a model that was there stays until the new one is whole."""
    partial, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    for path in (partial, old):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(str(partial))
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
