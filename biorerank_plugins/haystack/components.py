"""What our Haystack components have in common: loading at the first use, closing, saving and loading settings."""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import threading
from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, Self, TypeVar

from haystack import default_from_dict, default_to_dict

from biorerank_plugins.adapters_common import saved_model_name

T = TypeVar("T")


class LazyComponent(Generic[T]):
    """Base of the components: settings now, the model or index when it is needed.

    A subclass keeps every parameter of its ``__init__`` as an attribute of the same name, and says how to load.
    Copies and pickles hold the settings only.
    """

    def __init__(self) -> None:
        self._resource: T | None = None
        self._loading = threading.Lock()

    def _load(self) -> T:
        raise NotImplementedError

    def _release(self, resource: T) -> None:
        """Give back what :meth:`_load` returned."""

    def _loaded(self) -> T:
        resource = self._resource
        if resource is None:
            with self._loading:
                resource = self._resource
                if resource is None:
                    self._resource = resource = self._load()
        return resource

    async def _loaded_async(self) -> T:
        resource = self._resource
        return await asyncio.to_thread(self._loaded) if resource is None else resource

    def warm_up(self) -> None:
        """Load now instead of at the first run; loading twice is loading once."""
        self._loaded()

    async def warm_up_async(self) -> None:
        """Load now, without blocking the event loop."""
        await self._loaded_async()

    def close(self) -> None:
        """Give memory and threads back; closing twice is fine, and the next run loads again."""
        with self._loading:
            resource, self._resource = self._resource, None
        if resource is not None:
            self._release(resource)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain types; they are not changed.

        :raises ValueError: if a setting cannot be saved, such as a model object; the message says what to pass instead.
        """
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return default_to_dict(self, **{name: self._saved(name, getattr(self, name)) for name in names})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the component with the settings that :meth:`to_dict` gave; ``data`` is not changed.

        :raises TypeError: if ``data`` holds something else than settings.
        :raises ValueError: if a setting is impossible.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("init_parameters", {}), Mapping):
            raise TypeError(f"{cls.__name__}.from_dict takes what to_dict gave, got {type(data).__name__}.")
        try:
            saved = copy.deepcopy(data)
            return default_from_dict(cls, {**saved, "init_parameters": cls._of_today(saved.get("init_parameters", {}))})
        except (AttributeError, KeyError, RecursionError) as error:  # of Haystack's own classes, such as Secret
            raise ValueError(f"The settings of {cls.__name__} are damaged: {error!r:.200}") from error

    @classmethod
    def _of_today(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Return settings that an earlier version saved as this version reads them."""
        return settings

    def _saved(self, name: str, value: Any) -> Any:
        if name == "model":
            return saved_model_name(value)
        if callable(value):
            raise ValueError(f"{name} is a function, which cannot be saved. Pass a format string to save the pipeline.")
        return _plain(value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_resource", "_loading")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        LazyComponent.__init__(self)
        vars(self).update(state)


def _plain(value: Any) -> Any:
    """Return a value as YAML can hold it; objects that save themselves are left to Haystack."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return str(value) if type(value).__module__ == "torch" and type(value).__name__ == "dtype" else value
