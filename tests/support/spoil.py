"""Good input spoilt at random, and the judgement of what comes out of it."""

from __future__ import annotations

import copy
import json
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """Something to feed with hostile input.

    :param run: takes one input; what it raises is judged.
    :param documented: errors that may come out.
    :param seeds: good inputs that are spoilt.
    :param spoil: makes a bad input of a good one.
    """

    run: Callable[[Any], object]
    documented: tuple[type[BaseException], ...]
    seeds: tuple[Any, ...]
    spoil: Callable[[Any, random.Random], Any]

    def attempt(self, chance: random.Random) -> str | None:
        """Run once; return where an error came from that is not documented, ``None`` if there was none."""
        return self.judge(self.spoil(chance.choice(self.seeds), chance))

    def judge(self, given: Any) -> str | None:
        """Run one input, as :meth:`attempt`."""
        try:
            self.run(given)
        except self.documented:
            return None
        except (Exception, SystemExit) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return f"{type(error).__name__}: {error!s:.100} at {where} for {_shown(given)}"
        return None


def _shown(given: Any) -> str:
    try:
        return f"{given!r:.300}"
    except RecursionError:
        return "something nested deeply"


_TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\t", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"\xff\xfe",
    b"<", b">", b"/>", b"&lol;", b"&#0;", b"<!DOCTYPE a [<!ENTITY lol 'x'>]>", b"<!--", b"<![CDATA[", b"null",
    b"NaN",
    b"-Infinity", b"1e999", b"9" * 5000, b"\\ud800", b"[" * 3000, b"{\"a\":" * 2000, b"\x1f\x8b", b"PK\x03\x04",
    b"%PDF-",
    b"questions", b"snippets", b"_id", b"text", b"\xf0\x9f\xa7\xac", "é\u2028".encode(), b"True", b"-1", b"",
]  # fmt: skip


def spoil_bytes(good: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat, and insert what parsers trip over."""
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 2, 4, 12))):
        place = chance.randrange(len(data) + 1)
        action = chance.randrange(6)
        if action == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif action == 1:
            del data[place : place + chance.choice((1, 3, 40))]
        elif action == 2:
            data[place:place] = chance.choice(_TOKENS)
        elif action == 3:
            part = data[place : place + chance.choice((2, 20, 200))]
            goal = chance.randrange(len(data) + 1)
            data[goal:goal] = part
        elif action == 4 and place < len(data):
            data[place] = chance.choice((0, 9, 10, 34, 92, 127, 255))
        else:
            del data[place:]
    return bytes(data)


_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, float("nan"), float("inf"), "", "x", " ",
    "\0",
    "\ud800", "../../etc/passwd", "/", "v00000001", "__class__", "'; DROP TABLE passages; --", "$.a", "a.b", "{text.x}",
    "text", [], [[]], {}, {"": 1}, {"$or": [{}]}, {"==": None}, [1, "a", None], "cuda:99", "builtins.eval",
    "x" * 3000, b"x",
]  # fmt: skip


def spoil_tree(good: Any, chance: random.Random, depths: tuple[int, ...] = (1, 60, 3000)) -> Any:
    """Replace, remove, rename and nest parts of JSON-like data."""
    tree = copy.deepcopy(good)
    for _ in range(chance.choice((1, 1, 2, 3))):
        tree = _spoilt(tree, chance, depths)
    return tree


def spoil_settings(good: Any, chance: random.Random) -> Any:
    """Spoil data that some parser has read, which nests no deeper than Python itself can show."""
    return spoil_tree(good, chance, depths=(1, 60))


def _spoilt(tree: Any, chance: random.Random, depths: tuple[int, ...]) -> Any:
    if isinstance(tree, (dict, list)) and tree and chance.random() < 0.9:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = chance.choice(keys)
        action = chance.randrange(8)
        if action == 0:
            del tree[key]
        elif action == 1 and isinstance(tree, dict):
            tree[chance.choice([value for value in _VALUES if isinstance(value, str)])] = tree.pop(key)
        elif action == 2 and isinstance(tree, dict):
            tree[chance.choice(("extra", "$and", "$not", "type", "not in", "__init__"))] = copy.deepcopy(
                chance.choice(_VALUES)
            )
        else:
            tree[key] = _spoilt(tree[key], chance, depths)
        return tree
    if chance.random() < 0.1:
        for _ in range(chance.choice(depths)):
            tree = [tree] if chance.random() < 0.5 else {"$not": tree}
        return tree
    return copy.deepcopy(chance.choice(_VALUES))


def as_json(tree: Any) -> bytes:
    try:
        return json.dumps(tree, default=str).encode()
    except RecursionError:
        return b"[" * 100_000
