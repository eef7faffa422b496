"""What our Haystack components have in common: loading and closing, saved settings, arguments of the host's classes."""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import threading
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret

from biorerank_plugins._common.checks import check_query, whole_number
from biorerank_plugins.adapters_common import saved_model_name

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

HUB_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)
"""Where the access token for the hub is looked for, as in Haystack's own classes."""


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
        with self._loading:
            if self._resource is None:
                self._resource = self._load()
            return self._resource

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


def check_loading(
    device: ComponentDevice | None,
    dtype: str | torch.dtype | None,
    backend: str,
    remote: bool,
    model_kwargs: Mapping[str, Any] | None,
    tokenizer_kwargs: Mapping[str, Any] | None,
    config_kwargs: Mapping[str, Any] | None,
    backends: Sequence[str] = ("auto", "torch"),
) -> None:
    """Refuse what this package does not do when it loads a model, such as running code that comes with it."""
    if remote:
        raise ValueError("trust_remote_code=True is not supported: a model that brings code of its own is never run.")
    if config_kwargs:
        _refuse("config_kwargs", config_kwargs)
    if backend not in backends:
        raise ValueError(f"backend={backend!r} is not available. Choose one of: {', '.join(backends)}.")
    device_name(device)
    dtype_name(dtype, model_kwargs)
    length_limit(None, tokenizer_kwargs)


def dtype_name(dtype: str | torch.dtype | None, model_kwargs: Mapping[str, Any] | None) -> str:
    """Return the precision asked for: in ``dtype``, or in the host's way in ``model_kwargs``.

    :raises ValueError: if ``model_kwargs`` asks for anything else, or both ask for different ones.
    """
    own = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    given = dict(model_kwargs or {})
    asked = {str(given.pop(key)).removeprefix("torch.") for key in ("dtype", "torch_dtype") if key in given}
    if given.get("use_safetensors") is True:
        del given["use_safetensors"]
    if given:
        _refuse("model_kwargs", given, "dtype, torch_dtype")
    if len(asked | ({own} - {"auto"})) > 1:
        raise ValueError(f"dtype={dtype!r} and model_kwargs={model_kwargs!r} ask for different precisions.")
    return asked.pop() if asked else own


def length_limit(max_length: int | None, tokenizer_kwargs: Mapping[str, Any] | None) -> int | None:
    """Return the number of tokens read: the smaller of ``max_length`` and the host's ``model_max_length``.

    :raises ValueError: if ``tokenizer_kwargs`` asks for anything else, or a number is impossible.
    """
    given = dict(tokenizer_kwargs or {})
    limits = [given.pop("model_max_length", None), max_length]
    if given:
        _refuse("tokenizer_kwargs", given, "model_max_length")
    return min((whole_number("max_length", limit) for limit in limits if limit is not None), default=None)


def device_name(device: ComponentDevice | None) -> str | None:
    """Return a device as torch names it; ``None`` leaves the choice to us."""
    return None if device is None else ComponentDevice.resolve_device(device).to_torch_str()


def token_value(token: Secret | None) -> str | None:
    """Return the access token; read late, so that a saved pipeline never holds it."""
    value = None if token is None else token.resolve_value()
    return None if value is None else str(value)


def flag(name: str, value: object) -> bool:
    """Return a boolean; raise ``ValueError`` for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return value


def checked_query(query: object, prefix: str = "", suffix: str = "") -> str:
    """Return a query that says something, with what is put around it; raise for anything else."""
    if query is None:
        raise ValueError("query is None; give the question to search or rank for.")
    return prefix + check_query(query) + suffix


def _refuse(name: str, given: Mapping[str, Any], known: str = "") -> NoReturn:
    mapped = f" Of {name}, these are understood: {known}." if known else ""
    raise ValueError(
        f"{name}: {', '.join(map(repr, given))} cannot be passed on.{mapped} "
        "Load the sentence-transformers model yourself, save it to a folder, and pass the folder as model=…"
    )
