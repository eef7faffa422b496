"""What LlamaIndex's ``SentenceTransformerRerank`` takes for its ``CrossEncoder``, as settings of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAME = ("backend", "cache_folder", "local_files_only", "max_length", "revision", "token")
_REFUSED = {
    "activation_fn": "node.score is the model's own activation.",
    "config_kwargs": "Save the model with the configuration that you want, and pass its folder.",
    "default_prompt_name": "Pass query_prefix='…'.",
    "keep_in_fp32_modules": "Pass dtype='float32' to compute everything in fp32.",
    "model_card_data": "It has no meaning here.",
    "modules": "Pass the finished CrossEncoder object as model.",
    "num_labels": "A reranker needs a model with one label.",
    "processor_kwargs": "Pass max_length=…; anything else belongs into the model's folder.",
    "prompts": "Pass query_prefix='…'.",
    "tokenizer_kwargs": "Pass max_length=…; anything else belongs into the model's folder.",
}


def refuse_remote_code(value: object) -> None:
    """Raise ``ValueError`` unless code that comes with a model is not to be run: for anything but False or ``None``."""
    if value is not None and value is not False:
        raise ValueError(
            f"trust_remote_code={value!r} is not supported: code that comes with a model is never run. "
            "Leave it out, or pass a CrossEncoder object that you loaded yourself as model."
        )


def from_cross_encoder_kwargs(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``cross_encoder_kwargs`` as settings of ``BioRerankPostprocessor``.

    :param kwargs: arguments of ``CrossEncoder``; ``model_kwargs`` may hold ``dtype`` (or ``torch_dtype``).
    :raises ValueError: if one of them cannot be honoured; the message says what to do instead.
    """
    settings: dict[str, Any] = {}
    for name, value in (kwargs or {}).items():
        if name in ("model", "model_name_or_path", "device"):
            raise ValueError(
                f"{name!r} does not belong into cross_encoder_kwargs: pass model=… and device=… themselves."
            )
        if name == "trust_remote_code":
            refuse_remote_code(value)
        elif name in _SAME:
            settings[name] = value
        elif name in ("model_kwargs", "automodel_args"):
            settings |= _from_model_kwargs(name, value)
        elif name not in _REFUSED:
            known = ", ".join(sorted((*_SAME, "model_kwargs", "trust_remote_code")))
            raise ValueError(f"cross_encoder_kwargs[{name!r}] is unknown. Possible are: {known}.")
        elif value and not (name == "num_labels" and value == 1):  # unset is fine
            raise ValueError(f"cross_encoder_kwargs[{name!r}]={value!r:.80} is not supported. {_REFUSED[name]}")
    return settings


def _from_model_kwargs(name: str, kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in (kwargs or {}).items():
        if key in ("dtype", "torch_dtype"):
            settings["dtype"] = value
        elif key == "trust_remote_code":
            refuse_remote_code(value)
        elif key != "use_safetensors" or not value:  # which we do anyway
            raise ValueError(
                f"cross_encoder_kwargs[{name!r}][{key!r}]={value!r:.80} is not supported; possible is 'dtype'. "
                "Load a CrossEncoder yourself and pass the object as model."
            )
    return settings
