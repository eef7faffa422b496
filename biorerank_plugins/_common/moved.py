"""Modules that were somewhere else in 0.1: their old names still work, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "biorerank_plugins"
MOVED = {
    "answering": "answers.quoted",
    "boosts": "articles.boosts",
    "calibration": "models.calibration",
    "llm": "answers.llm",
    "metadata": "articles.metadata",
    "questions": "answers.question_language",
    "reranker": "reranking.reranker",
    "search": "two_stage",
    "sentences": "text.sentences",
    "windows": "text.windows",
    "written_answers": "answers.written",
}
"""Old name ► new name, below the package."""


class _Finder(MetaPathFinder, Loader):
    """Gives the module of the new name where the old one is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = f"{_PACKAGE}.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(f"{spec.name} is now {new}; the old name goes with 0.3.", DeprecationWarning, stacklevel=2)
        module = ModuleType(spec.name, f"Moved to {new}.")
        home = import_module(new)
        vars(module).update({name: value for name, value in vars(home).items() if not name.startswith("__")})
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is complete."""


def install() -> None:
    """Let old names be imported; doing it twice changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
