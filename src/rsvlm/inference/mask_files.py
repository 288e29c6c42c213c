"""Masks of an answer as files: overlay, one PNG each, indexed PNG, COCO's run lengths, polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.folders import printable
from rsvlm.data.mask_polygons import polygons_of
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError
from rsvlm.files import write_text
from rsvlm.report.masks import COLOURS, overlaid


def write_masks(
    answer: Answer, picture: str | Path, target: Path, *, quiet: bool = False
) -> list[Path]:
    """Prints the masks of an answer and writes them beside `target`.

    - the overlay: `target` itself, or `<stem>_overlay.png` where boxes are drawn there;
    - `<stem>_mask_<k>.png`, from 1 on: 255 within the object;
    - `<stem>_masks.png`: 0 outside, k within the k-th object, the surest on top, with a palette;
    - `<stem>_masks.json`: COCO's annotations, compressed run lengths, with score and class;
    - `<stem>_masks.geojson`: a MultiPolygon each, in pixels of the stored picture.

    Args:
        answer: as a model gives it.
        picture: the file that it speaks of.
        target: of the overlay.
        quiet: print nothing, as of one picture of many.

    Returns:
        The files; none for an answer without a mask.

    Raises:
        UserError: a file cannot be written, or more objects than an indexed PNG has colours.
    """
    for note in [] if quiet else answer.notes:
        print(f"note: {printable(note)}")
    if not answer.masks:
        return []
    from rsvlm.data.images import read_any

    image, _ = read_any(picture)
    scores = answer.mask_scores or [1.0] * len(answer.masks)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(answer.masks))]
    stem = target.with_suffix("")
    overlay = stem.with_name(f"{stem.name}_overlay.png") if answer.boxes else target
    if len(answer.masks) > 255:
        raise UserError(f"{len(answer.masks)} masks: an indexed PNG tells 255 objects apart.")
    rows = coco_rows(answer)
    files = [overlay]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        overlaid(image, answer.masks, colours).save(overlay)
        for k, mask in enumerate(answer.masks, 1):
            files.append(stem.with_name(f"{stem.name}_mask_{k}.png"))
            Image.fromarray(mask.astype(np.uint8) * 255).save(files[-1])
        files.append(stem.with_name(f"{stem.name}_masks.png"))
        _indexed(answer.masks, scores, colours).save(files[-1])
    except OSError as error:
        raise UserError(f"out={target} cannot be written ({error.strerror or error}).") from error
    files.append(stem.with_name(f"{stem.name}_masks.json"))
    write_text(files[-1], json.dumps(rows, indent=1) + "\n")
    files.append(stem.with_name(f"{stem.name}_masks.geojson"))
    write_text(files[-1], json.dumps(geojson(answer.masks, rows)) + "\n")
    if quiet:
        return files
    for row in rows:
        known = f"  {row['category']} ({row['category_from']})" if "category" in row else ""
        print(f"mask {row['id']}: {row['area']} px, score {row['score']:.2f}{known}")
    print(f"wrote {', '.join(str(file) for file in files)}")
    return files


def coco_rows(answer: Answer) -> list[dict[str, Any]]:
    """COCO's annotation of each mask of an answer: run lengths, box, area, score, class."""
    scores = answer.mask_scores or [1.0] * len(answer.masks)
    pairs = zip(answer.masks, scores, strict=True)
    return [_row(answer, mask, k, score) for k, (mask, score) in enumerate(pairs, 1)]


def geojson(masks: list[np.ndarray], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A FeatureCollection with a MultiPolygon for each mask, in pixels.

    Args:
        masks: [H, W] bool.
        rows: what is said of each; its `segmentation` is left out.
    """
    features = []
    for mask, row in zip(masks, rows, strict=True):
        parts = [[[list(point) for point in ring] for ring in part] for part in polygons_of(mask)]
        said = {key: value for key, value in row.items() if key != "segmentation"}
        shape = {"type": "MultiPolygon", "coordinates": parts}
        features.append({"type": "Feature", "properties": said, "geometry": shape})
    return {"type": "FeatureCollection", "features": features}


def _row(answer: Answer, mask: np.ndarray, number: int, score: float) -> dict[str, Any]:
    held = np.argwhere(mask)
    box = [0.0, 0.0, 0.0, 0.0]
    if len(held):
        (top, left), (bottom, right) = held.min(0).tolist(), held.max(0).tolist()
        box = [float(left), float(top), float(right + 1 - left), float(bottom + 1 - top)]
    row: dict[str, Any] = {
        "id": number,
        "segmentation": rle.encode(mask),
        "bbox": box,
        "area": int(mask.sum()),
        "score": round(float(score), 4),
        "text": answer.text,
    }
    if answer.mask_classes:
        row["category"], row["category_from"] = answer.mask_classes[number - 1]
    return row


def _indexed(masks: list[np.ndarray], scores: list[float], colours: list[str]) -> Image.Image:
    numbers = np.zeros(masks[0].shape, np.uint8)
    for k in sorted(range(len(masks)), key=lambda k: scores[k]):
        numbers[masks[k]] = k + 1
    out = Image.fromarray(numbers, mode="P")
    palette = [0, 0, 0]
    for colour in colours:
        palette += [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    out.putpalette(palette)
    return out
