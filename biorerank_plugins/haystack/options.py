"""Arguments of the Haystack classes that we stand in for: checked, and turned into ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from haystack.utils import ComponentDevice, Secret

from biorerank_plugins._common.checks import check_query, whole_number

if TYPE_CHECKING:
    import torch


HUB_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)
"""Where the access token for the hub is looked for, as in Haystack's own classes."""


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
    """Refuse what this package does not do when it loads a model.

    :raises ValueError: if code from the hub, another configuration, an unknown backend or anything else that cannot be
        had is asked for.
    """
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
    """Return a device as torch names it; ``None`` leaves the choice to us.

    :raises ValueError: if it is no ``ComponentDevice``, or one for several devices.
    """
    return None if device is None else ComponentDevice.resolve_device(device).to_torch_str()


def token_value(token: Secret | None) -> str | None:
    """Return the access token; read late, so that a saved pipeline never holds it."""
    value = None if token is None else token.resolve_value()
    return None if value is None else str(value)


def flag(name: str, value: object) -> bool:
    """Return a boolean.

    :raises ValueError: if it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return value


def checked_query(query: object, prefix: str = "", suffix: str = "") -> str:
    """Return a query that says something, with what is put around it.

    :raises ValueError: if it is ``None`` or blank.
    :raises TypeError: if it is something else than a string.
    """
    if query is None:
        raise ValueError("query is None; give the question to search or rank for.")
    return prefix + check_query(query) + suffix


def _refuse(name: str, given: Mapping[str, Any], known: str = "") -> NoReturn:
    mapped = f" Of {name}, these are understood: {known}." if known else ""
    raise ValueError(
        f"{name}: {', '.join(map(repr, given))} cannot be passed on.{mapped} "
        "Load the sentence-transformers model yourself, save it to a folder, and pass the folder as model=…"
    )
