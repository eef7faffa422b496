"""A trained model as a small folder: fp16 weights that every loader computes with in fp32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["export_fp16"]

# Everything a loader reads, and nothing else (training leaves optimizer states, cards and caches behind).
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)


def export_fp16(folder: str | Path, out: str | Path) -> Path:
    """Copy a model folder with its weights stored in fp16, half the size.

    ``config.json`` of the copy says ``"dtype": "float32"``: transformers 5 would otherwise compute in the precision
    that it finds in the file, and fp16 on a CPU is several times slower than fp32.

    :param folder: a folder saved by sentence-transformers, with ``model.safetensors``.
    :param out: folder to write; it may exist, files of the same names are replaced.
    :returns: ``out``.
    :raises ModelError: if the folder lacks weights, configuration or tokenizer, a weight does not fit into fp16, or
        a further module has weights too.
    :raises ValueError: if ``out`` is ``folder``.
    """
    from safetensors.torch import load_file, save_file

    folder, out = Path(folder), Path(out)
    modules = sorted(folder.glob("[0-9]*_*"))
    _check(folder, modules)
    if out.resolve() == folder.resolve():
        raise ValueError(f"out={str(out)!r} is the folder itself, whose weights are read while they are written.")
    tensors = {
        name: _half(name, tensor)
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.endswith("position_ids")  # a constant that older versions of transformers saved
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("torch_dtype", "_name_or_path", "transformers_version"):
        config.pop(key, None)
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    for module in modules:
        if (module / "config.json").is_file():
            (out / module.name).mkdir(exist_ok=True)
            shutil.copyfile(module / "config.json", out / module.name / "config.json")
    return out


def _check(folder: Path, modules: list[Path]) -> None:
    for needed in ("model.safetensors", "config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise ModelError(f"{folder} has no {needed}.")
    for module in modules:
        if any(module.glob("*.safetensors")) or any(module.glob("*.bin")):
            raise ModelError(f"The module {module.name} of {folder} has weights; only the transformer's are exported.")


def _half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    if not half.isfinite().all():
        raise ModelError(f"The weight {name!r} does not fit into fp16.")
    return half.contiguous()
