"""Where a bi-encoder's files are, and what its folder says about how to use them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import cache_only, resolve_folder

# Weights in safetensors only: nothing that is fetched can hold code.
_WANTED_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_UNWANTED_FILES = ["onnx/*", "openvino/*"]

POOLINGS = ("mean", "cls", "max", "lasttoken")
"""Ways to make one vector of a text's token vectors that our token path knows."""

_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True)
class EncoderSettings:
    """What a folder says about how its model makes a vector; ``None`` where it says nothing.

    :param pooling: how token vectors become one vector.
    :param normalize: whether vectors are brought to length 1.
    :param max_length: tokens read of a text.
    :param prompts: text put before queries and passages, by name.
    :param unusual: what the folder asks for that only sentence-transformers itself does; empty for most models.
    """

    pooling: str | None = None
    normalize: bool | None = None
    max_length: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    unusual: tuple[str, ...] = ()

    def prompt(self, given: str | None, *names: str) -> str:
        """Return what was given, else the first prompt of these names that says something, ``""`` if none does."""
        if given is not None:
            return given
        return next((self.prompts[name] for name in names if self.prompts.get(name)), "")


def find_model_folder(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    local_files_only: bool | None = None,
) -> Path:
    """Return the folder of a model: embedded, given as a folder, or fetched from the Hugging Face hub.

    Only a hub name can cause network traffic, and only if it looks like one (``owner/name``).

    :raises ModelError: if there is no such model, or its folder holds none.
    """
    folder = resolve_folder(model)
    if folder is None:
        folder = _fetch(os.fspath(model), revision, token, cache_folder, bool(local_files_only))
    if not any(folder.rglob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no weights in the safetensors format, the only one that is loaded. "
            "Convert them: AutoModel.from_pretrained(…).save_pretrained(…)."
        )
    return folder


def _fetch(
    name: str,
    revision: str | None,
    token: str | bool | None,
    cache: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=None if cache is None else os.fspath(cache),
                local_files_only=cache_only(name, revision=revision, token=token, local_files_only=local_files_only),
                allow_patterns=_WANTED_FILES,
                ignore_patterns=_UNWANTED_FILES,
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The model {name!r} could not be had from the Hugging Face hub: {reason} "
            f"Embedded models: {', '.join(models.names())}."
        ) from error


def read_settings(folder: Path) -> EncoderSettings:
    """Read what a folder made by sentence-transformers says; a plain transformers folder says nothing."""
    try:
        return _settings_of(folder)
    except (AttributeError, OSError, RecursionError, TypeError, ValueError) as error:  # something is of another type
        raise ModelError(f"The settings in {folder} are damaged: {error!r:.200}.") from error


def _settings_of(folder: Path) -> EncoderSettings:
    config = _read_json(folder / "config.json", default={})
    if not (folder / "modules.json").is_file():
        if any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
            raise ModelError(f"{folder} holds a classifier or cross-encoder; the first stage needs a bi-encoder.")
        return EncoderSettings()
    modules = _read_json(folder / "modules.json", default=[])
    about = _read_json(folder / "config_sentence_transformers.json", default={})
    if about.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise ModelError(f"{folder} holds a {about['model_type']}; the first stage needs a SentenceTransformer.")
    transformer = _read_json(folder / "sentence_bert_config.json", default={})
    pooling: str | None = None
    normalize = False
    unusual = _unusual_transformer(transformer)
    unusual += [what for what, asked in (("truncate_dim", about), ("is_encoder_decoder", config)) if asked.get(what)]
    kinds = [_module_kind(module) for module in modules]
    for kind, module in zip(kinds, modules, strict=True):
        if kind == "Pooling":
            pooling, strange = _read_pooling(_inside(folder, module) / "config.json")
            unusual += strange
        normalize = normalize or kind == "Normalize"
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get("path"):
        unusual.append(f"modules {', '.join(kinds)}")
    return EncoderSettings(
        pooling=pooling,
        normalize=normalize,
        max_length=transformer.get("max_seq_length"),
        prompts=about.get("prompts") or {},
        unusual=tuple(unusual),
    )


def _inside(folder: Path, module: Mapping[str, Any]) -> Path:
    path = Path(str(module.get("path")))
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{folder / 'modules.json'} names a module outside of the folder: {path}.")
    return folder / path


def _module_kind(module: Mapping[str, Any]) -> str:
    package, _, kind = str(module.get("type")).rpartition(".")
    return kind if package.split(".")[0] == "sentence_transformers" else f"{package}.{kind}"


def _unusual_transformer(settings: Mapping[str, Any]) -> list[str]:
    plain: dict[str, tuple[Any, ...]] = {
        "do_lower_case": (False, None),
        "transformer_task": ("feature-extraction",),
        "module_output_name": ("token_embeddings",),
        "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    }
    known = {"max_seq_length"}
    return [key for key, value in settings.items() if key not in known and value not in plain.get(key, (None, {}))]


def _read_pooling(path: Path) -> tuple[str | None, list[str]]:
    settings = _read_json(path, default={})
    modes = settings.get("pooling_mode") or [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)]
    modes = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
    unusual = [] if settings.get("include_prompt", True) else ["pooling without the prompt"]
    if len(modes) == 1 and modes[0] in POOLINGS:
        return modes[0], unusual
    return None, [*unusual, f"pooling by {' and '.join(modes)}"]


def _read_json(path: Path, *, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, type(default)):
        raise ModelError(f"{path} is damaged: expected a JSON {type(default).__name__}.")
    return content
