"""What lies beside trained weights: the model card, and the loss drawn beside that of another log of the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins._common.plots import new_figure, png
from biorerank_plugins._common.versions import versions
from biorerank_plugins.training.dev import DevSet
from biorerank_plugins.training.rows import CARD_STATISTICS
from biorerank_plugins.training.tasks import Recipe, TrainConfig
from biorerank_plugins.training.trainer import Trained

PACKAGES = ("sentence-transformers", "transformers", "torch", "accelerate", "datasets", "tokenizers")
_SAMPLES = 3
_SAMPLE_CHARACTERS = 200
_LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card states."""

    recipe: Recipe
    base: str  # what the model started from
    optimizer: str | None  # which of the recipe's, if it has any
    config: TrainConfig
    rows: Sequence[Any]
    trained: Trained
    dev: DevSet | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but log and rows as plain JSON types."""
        return {
            "recipe": self.recipe.name,
            "optimizer": self.optimizer,
            "base": self.base,
            "config": asdict(self.config),
            "data": self.recipe.task.describe(self.rows),
            "dev_set": None if self.dev is None else {"name": self.dev.name, "questions": len(self.dev.qrels)},
            "dev": self.trained.dev,
        }


def write_card(facts: CardFacts, path: Path) -> None:
    """Write the card as Markdown with the hub's front matter."""
    parts = (_front_matter, _details, _usage, _data, _hyperparameters, _log, _evaluation)
    sections = [
        *(part(facts) for part in parts),
        "## Framework versions\n\n" + _table(("", ""), versions(PACKAGES).items()),
    ]
    path.write_text("\n\n".join(filter(None, sections)) + "\n", encoding="utf-8")


def _front_matter(facts: CardFacts) -> str:
    # The name of a folder means nothing elsewhere (the hub refuses it), and its licence is not known.
    known = []
    if facts.base == facts.recipe.base:
        known = [f"license: {facts.recipe.license}"] + [f"base_model: {facts.base}"] * ("/" in facts.base)
    always = [
        "library_name: sentence-transformers",
        "pipeline_tag: text-ranking",
        "tags: [sentence-transformers, cross-encoder, reranker, biomedical]",
    ]
    return "\n".join(["---", *known, *always, "---"])


def _details(facts: CardFacts) -> str:
    model = facts.trained.model
    size = sum(parameter.numel() for parameter in model.parameters())
    table = [
        ("recipe", f"`{facts.recipe.name}`: {facts.recipe.summary}"),
        ("started from", Path(facts.base).name if Path(facts.base).is_dir() else facts.base),
        ("architecture", f"{type(model.model).__name__}, one label, {size:,} parameters"),
        ("longest pair", f"{model.max_seq_length} tokens"),
        ("activation", "sigmoid"),
    ]
    text = (
        "Scores a biomedical question with a passage: the higher, the more the passage answers it. For research; not "
        "medical advice."
    )
    return f"# A cross-encoder trained with biorerank\n\n{text}\n\n## Model details\n\n" + _table(("", ""), table)


def _usage(facts: CardFacts) -> str:
    question, passage, _ = facts.recipe.task.sample(facts.rows[0])
    question, passage = (_clipped(text) for text in (question, passage))
    return f"""## Usage

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("path/to/this/folder")
scores = model.predict([({question!r}, {passage!r})])
print(scores.shape)  # (1,)
ranks = model.rank({question!r}, [{passage!r}, "Another passage."])
print(ranks)  # [{{"corpus_id": …, "score": …}}, …]
```

or `BioReranker("path/to/this/folder").rank(question, passages)` from `biorerank_plugins`."""


def _data(facts: CardFacts) -> str:
    statistics = facts.recipe.task.describe(facts.rows)
    rows = [(name, _cell(value), _cell(CARD_STATISTICS.get(name, ""))) for name, value in statistics.items()]
    samples = [
        tuple(_clipped(cell).replace("|", "\\|") for cell in facts.recipe.task.sample(row))
        for row in facts.rows[:: max(len(facts.rows) // _SAMPLES, 1)][:_SAMPLES]
    ]
    first_card = bool(facts.recipe.reference)
    heads, cut = (("", "this model", "the card that the recipe repeats"), 3) if first_card else (("", "this model"), 2)
    return (
        "## Training data\n\nCharacters are given as minimum / mean / maximum.\n\n"
        + _table(heads, [row[:cut] for row in rows])
        + "\n\nSamples:\n\n"
        + _table(("question", "passage", "label"), samples)
    )


def _hyperparameters(facts: CardFacts) -> str:
    settings = {"loss": facts.recipe.task.loss_name, "optimizer": "AdamW (fused), linear decay"}
    if facts.optimizer is not None:
        settings["variant"] = (
            f"`{facts.optimizer}` (the card cannot tell them apart: {', '.join(facts.recipe.optimizers)})"
        )
    return "## Hyperparameters\n\n" + _table(("", ""), [*settings.items(), *asdict(facts.config).items()])


def _log(facts: CardFacts) -> str:
    points = loss_points(facts.trained.log)
    kept = points[:: max(-(-len(points) // _LOG_LINES), 1)]
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    lines = [(f"{epoch:.4f}", f"{step:,}", f"{loss:.4f}") for epoch, step, loss in kept]
    return "## Training log\n\nThe mean loss since the line before.\n\n" + _table(("epoch", "step", "loss"), lines)


def _evaluation(facts: CardFacts) -> str:
    if facts.dev is None or facts.trained.dev is None:
        return ""
    measured = [(name.removeprefix("dev_"), f"{value:.4f}") for name, value in facts.trained.dev.items()]
    return (
        f"## Evaluation\n\n{len(facts.dev.qrels):,} judged questions of `{facts.dev.name}`, full judgements.\n\n"
        + _table(("measure", "value"), measured)
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name or 'not given'} {count:,}" for name, count in value.items())
    if isinstance(value, list):
        return " / ".join(f"{number:,}" for number in value)
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SAMPLE_CHARACTERS else f"{text[: _SAMPLE_CHARACTERS - 1]}…"


def loss_points(log: Sequence[Mapping[str, Any]]) -> list[tuple[float, int, float]]:
    """Return (epoch, step, loss) of each entry of a run's log that has a loss; runs follow one another."""
    points: list[tuple[float, int, float]] = []
    epochs, steps, run = 0.0, 0, 1  # of the runs before
    for entry in log:
        if int(entry.get("run", 1)) != run:
            run = int(entry["run"])
            epochs, steps = (points[-1][0], points[-1][1]) if points else (0.0, 0)
        if "loss" in entry:
            points.append((epochs + float(entry["epoch"]), steps + int(entry["step"]), float(entry["loss"])))
    return points


def draw_loss_curve(
    log: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    reference: Sequence[tuple[float, int, float]] = (),
    title: str = "",
) -> None:
    """Draw the loss against epochs, so that runs on different numbers of rows can be compared.

    :param reference: (epoch, step, loss) of another log, drawn as single points with their steps.
    """
    figure, (axes,) = new_figure(7, 4)
    points = loss_points(log)
    axes.plot([epoch for epoch, _, _ in points], [loss for _, _, loss in points], marker=".", label="this run")
    if reference:
        epochs, _, losses = zip(*reference, strict=True)
        axes.plot(epochs, losses, linestyle="none", marker="x", color="black", label="the card's log")
        above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "fontsize": 7, "ha": "center"}
        for epoch, step, loss in reference:
            axes.annotate(f"step {step:,}: {loss}", (epoch, loss), **above)
        axes.margins(x=0.12, y=0.15)
    axes.set(xlabel="epochs", ylabel="training loss (mean since the point before)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    Path(path).write_bytes(png(figure))
