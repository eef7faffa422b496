"""What the trainer calls while it trains."""

from __future__ import annotations

import math
from typing import Any

from biorerank_plugins.errors import ModelError

__all__ = ["early_stopping", "progress_bar", "stop_on_nan"]


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


def early_stopping(patience: int) -> Any:
    """Return a trainer callback that stops when the dev measure has not risen ``patience`` times in a row."""
    from transformers import EarlyStoppingCallback

    return EarlyStoppingCallback(early_stopping_patience=patience)


def progress_bar() -> Any:
    """Return a trainer callback that draws progress on stderr, with the loss beside it.

    The library's own also writes every entry of the log to stdout, which belongs to results.
    """
    from transformers import ProgressCallback

    class ProgressBar(ProgressCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if self.training_bar is not None and "loss" in (logs or {}):
                self.training_bar.set_postfix(loss=f"{logs['loss']:.4f}")

    return ProgressBar()
