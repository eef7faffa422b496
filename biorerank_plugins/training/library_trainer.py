"""What training with sentence-transformers' trainers needs around them, whichever of them it is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from biorerank_plugins.errors import MissingExtraError
from biorerank_plugins.runtime.devices import cpu_has_bf16
from biorerank_plugins.training.callbacks import progress_bar

__all__ = ["has_bf16", "need_extra", "report_on_stderr", "set_dropout", "shared_arguments"]


def need_extra() -> None:
    """Raise :class:`MissingExtraError` where what the trainers need is not installed."""
    try:
        for module in ("accelerate", "datasets"):  # the trainer imports them, and says less clearly what is missing
            import_module(module)
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from error


def has_bf16(on_gpu: bool) -> bool:
    """Return whether the device multiplies bf16 natively; where it does not, training is in fp32."""
    import torch

    return bool(torch.cuda.is_bf16_supported()) if on_gpu else cpu_has_bf16()


def shared_arguments(*, on_gpu: bool, bf16: bool, show_progress: bool) -> dict[str, Any]:
    """Return the arguments that every run gives its trainer.

    :param on_gpu: whether the model is on a GPU.
    :param bf16: autocast to bf16, where the device multiplies it natively.
    :param show_progress: whether a progress bar is drawn.
    """
    return {
        "lr_scheduler_type": "linear",
        "bf16": bf16 and has_bf16(on_gpu),
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "save_total_limit": 2,
        # A NaN must be seen before a checkpoint holds it, and transformers hides it from the log unless told not to.
        "logging_nan_inf_filter": False,
        "disable_tqdm": not show_progress,
        "report_to": "none",
    }


def report_on_stderr(trainer: Any, show_progress: bool) -> None:
    """Take the library's reports from a trainer, which go to stdout, and add our progress bar if asked for."""
    from transformers import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if show_progress:
        trainer.add_callback(progress_bar())


def set_dropout(model: Any, dropout: float) -> None:
    """Set the dropout of all layers of a model."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
