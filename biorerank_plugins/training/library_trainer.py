"""What training with sentence-transformers' trainers needs around them: base weights, callbacks, arguments."""

from __future__ import annotations

import logging
import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import ModelError, require_extra
from biorerank_plugins.runtime.devices import cpu_has_bf16
from biorerank_plugins.runtime.text_ids import lowers_cased_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)


def stop_on_nan() -> Any:
    """Return a trainer callback that stops a run whose loss is not finite before a checkpoint can hold it.

    The loss is logged at every step that saves, and logging comes before saving.
    """
    from transformers import TrainerCallback

    class StopOnNaN(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_save:
                control.should_log = True

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            # A gradient that is not finite spoils the weights of this step, the loss only that of the next.
            bad = [name for name in ("loss", "grad_norm") if not math.isfinite((logs or {}).get(name, 0.0))]
            if bad:
                raise ModelError(
                    f"The {bad[0]} is not finite at step {state.global_step}: training stopped. The last good "
                    f"checkpoint lies in {args.output_dir}. Try a lower learning rate, or bf16=False."
                )

    return StopOnNaN()


def load_base(base: str | Path, *, device: str | None = None, local_files_only: bool | None = None) -> CrossEncoder:
    """Load an encoder or a cross-encoder as a cross-encoder with one label, in fp32.

    A tokenizer that lower-cases text although its vocabulary is cased is loaded again with ``do_lower_case=False``:
    ``dmis-lab/biobert-base-cased-v1.1`` has no tokenizer configuration, so it would never see a capital.

    :param device: ``None`` for CUDA where there is one, else the CPU.
    :param local_files_only: whether a hub model is taken from the cache only.
    :raises ModelError: if it cannot be loaded.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.models.folders import cache_only, resolve_folder

    folder = resolve_folder(base)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    offline = folder is not None or cache_only(str(base), revision=None, token=None, local_files_only=local_files_only)

    def load(**processor_kwargs: Any) -> CrossEncoder:
        model: CrossEncoder = CrossEncoder(
            str(base if folder is None else folder),
            num_labels=1,
            device=chosen,
            local_files_only=offline,
            # fp32 weights whatever the folder stores: transformers loads stored precision, fp16 weights do not train.
            # On a CPU the backward pass of eager attention is faster than that of torch's fused one.
            model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa" if "cuda" in chosen else "eager"},
            processor_kwargs=processor_kwargs or None,
        )
        return model

    try:
        model = load()
        if _lowers_cased_vocabulary(model.tokenizer):
            logger.info("The vocabulary of %s is cased: its tokenizer is loaded with do_lower_case=False.", base)
            model = load(do_lower_case=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"The weights {str(base)!r} cannot be loaded as a cross-encoder with one label: {reason[:300]} "
            "Give a folder that holds them (base, --base) where the hub cannot be reached."
        ) from error
    if _lowers_cased_vocabulary(model.tokenizer):
        raise ModelError(f"The tokenizer of {base} lower-cases text whatever it is told, but its vocabulary is cased.")
    return model


def check_saved_casing(model: CrossEncoder, folder: Path) -> None:
    """Raise :class:`ModelError` if a plain ``AutoTokenizer`` of a saved folder reads capitals as the model does not."""
    from transformers import AutoTokenizer

    text = "EGFR and p53 in Homo sapiens"
    saved = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if saved(text)["input_ids"] != model.tokenizer(text)["input_ids"]:
        raise ModelError(f"{folder} was saved with a tokenizer that reads text differently from the one trained with.")


def _lowers_cased_vocabulary(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)  # only fast tokenizers have one
    return backend is not None and lowers_cased_vocabulary(backend)


def need_extra() -> None:
    """Raise :class:`MissingExtraError` where what the trainers need is not installed."""
    with require_extra("train"):
        for module in ("accelerate", "datasets"):  # the trainer imports them, and says less clearly what is missing
            import_module(module)


def shared_arguments(*, on_gpu: bool, bf16: bool, show_progress: bool) -> dict[str, Any]:
    """Return the arguments that every run gives its trainer; bf16 only where the device multiplies it natively."""
    import torch

    native = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
    return {
        "lr_scheduler_type": "linear",
        "bf16": bf16 and native,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "save_total_limit": 2,
        # A NaN must be seen before a checkpoint holds it, and transformers hides it from the log unless told not to.
        "logging_nan_inf_filter": False,
        "disable_tqdm": not show_progress,
        "report_to": "none",
    }


def report_on_stderr(trainer: Any, show_progress: bool) -> None:
    """Take the library's reports from a trainer, which go to stdout, and add a progress bar if asked for."""
    from transformers import PrinterCallback, ProgressCallback

    class ProgressBar(ProgressCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if self.training_bar is not None and "loss" in (logs or {}):
                self.training_bar.set_postfix(loss=f"{logs['loss']:.4f}")

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if show_progress:
        trainer.add_callback(ProgressBar())


def set_dropout(model: Any, dropout: float) -> None:
    """Set the dropout of all layers of a model."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
