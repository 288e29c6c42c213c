"""What a model wrote: a file of predictions, and a sheet of good and bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rsvlm.report.examples import as_picture
from rsvlm.report.figures import Theme, heading, wrapped, write_figure


@dataclass(frozen=True)
class Written:
    """An answer beside its pictures.

    Attributes:
        images: one picture, or both dates.
        references: what people wrote, a few of them.
        prediction: what the model wrote.
        note: what else to say, such as a score.
        question: what was asked, where that differs from image to image.
    """

    images: Sequence[Image.Image]
    references: Sequence[str]
    prediction: str
    note: str = ""
    question: str = ""


def spread_of(metric: Any, count: int) -> tuple[str, list[float], list[int]]:
    """The best, evenly spread and worst answers of a caption metric, `count` of each.

    They are ordered by CIDEr-D of the single image, or by the first score that there is.

    Returns:
        The score's word, its values, and places in `metric.used`.
    """
    scores = metric.per_image
    if not scores:
        return "", [], []
    word = "cider" if "cider" in scores else next(iter(scores))
    values = scores[word].tolist()
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    step = max(1, len(order) // (count + 1))
    chosen = [*order[:count], *order[step::step][:count], *order[-count:]]
    return word, values, list(dict.fromkeys(chosen))


def draw_answers(metric: Any, dataset: Any, folder: Path, *, count: int = 5) -> list[Path]:
    """answers.png: the best, the worst and evenly spread answers between them.

    Args:
        metric: a caption metric after `compute`.
        dataset: yields samples by position.
        folder: the run's `pictures`.
        count: of each of the three kinds.
    """
    word, values, chosen = spread_of(metric, count)
    if not chosen:
        return []
    rows = []
    for place in chosen:
        record = metric.used[place]
        sample = dataset[int(record.id)]
        rows.append(
            Written(
                [as_picture(image) for image in sample.images[:2]],
                list(record.references)[:2],
                record.prediction,
                f"{word} {values[place]:.1f}",
            )
        )
    title = f"{dataset.name}: what was written, from the best to the worst by {word}"
    return [answer_sheet(rows, folder / "answers.png", title=title)]


def answer_sheet(rows: Sequence[Written], path: Path, *, title: str = "") -> Path:
    """One row per answer: its pictures, the question, the references, the prediction.

    Args:
        rows: the answers.
        path: the picture, ending in `.png`.
        title: above the sheet.
    """
    shown = max(len(row.images) for row in rows)
    cell, text = 1.35, 6.2
    width, height = cell * shown + text + 0.3, 0.45 + (cell + 0.12) * len(rows)

    def draw(figure: Any, theme: Theme) -> None:
        heading(figure, theme, title, height)
        for number, row in enumerate(rows):
            top = height - 0.45 - (cell + 0.12) * number
            for place, image in enumerate(row.images):
                box = (
                    (0.1 + cell * place) / width,
                    (top - cell + 0.06) / height,
                    (cell - 0.06) / width,
                    (cell - 0.06) / height,
                )
                axes = figure.add_axes(box)
                axes.imshow(image)
                axes.set_axis_off()
            left = (0.25 + cell * shown) / width
            # A list of boxes has no narrow letters.
            wide = 68 if row.question else 88
            lines = [line for text in row.references for line in wrapped(text, wide, 2)]
            asked = wrapped(row.question, 80, 2) if row.question else []
            figure.text(
                left,
                (top - 0.05) / height,
                "\n".join(asked),
                va="top",
                fontsize=8,
                color=theme.ink,
            )
            figure.text(
                left,
                (top - 0.05 - 0.165 * len(asked)) / height,
                "\n".join(lines),
                va="top",
                fontsize=7.5,
                color=theme.quiet,
            )
            said = "\n".join(wrapped(row.prediction or "(empty)", 64 if row.question else 88, 3))
            figure.text(
                left, (top - 0.75) / height, said, va="top", fontsize=8.5, color=theme.first
            )
            figure.text(
                left,
                (top - cell + 0.08) / height,
                row.note,
                va="bottom",
                fontsize=7,
                color=theme.quiet,
            )

    return write_figure(path, (width, height), draw)
