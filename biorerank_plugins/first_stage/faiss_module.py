"""FAISS as one untyped name: the type stubs it brings do not know its Python wrapper."""

from __future__ import annotations

from importlib import import_module
from typing import Any

faiss: Any = import_module("faiss")
