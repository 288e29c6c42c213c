"""RSIVQA: text files of `image:question?answer`, a folder a source."""

from __future__ import annotations

from pathlib import Path

from rsvlm.data.datasets.rsivqa import SOURCES
from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.chat import simple_questions, turns
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_THEME = "what is the theme of this picture?"


def write(out: Path, splits: Splits) -> Expected:
    """Writes `RSIVQA/<source>/*.txt` and `RSIVQA/<source>/images/`, scenes in turn to the files.

    AID, Sydney and UCM ask for the theme; DOTA and HRRSD for things and their number, with images
    named without their ending and a space before the question.
    """
    files = [(source, name) for source, names in SOURCES.items() for name in names]
    lines: dict[tuple[str, str], list[str]] = {file: [] for file in files}
    found: dict[tuple[str, str], list[Sample]] = {file: [] for file in files}
    scenes = [(sample, part.classes) for part in splits.values() for sample in part]
    for number, (sample, classes) in enumerate(scenes):
        file = source, name = files[number % len(files)]
        things = source in ("DOTA", "HRRSD")
        stem = f"P{number:04d}" if source == "DOTA" else f"{number + 1:05d}"
        ending = {"DOTA": ".png", "Sydney": ".tif", "UCM": ".tif"}.get(source, ".jpg")
        save(sample.images[0], out / "RSIVQA" / source / "images" / f"{stem}{ending}")
        image = stem if things else f"{stem}{ending}"
        label = classes[sample.label or 0].replace(" ", "")
        said = (
            [(a.question, a.answer, a.kind) for a in simple_questions(sample)]
            if things
            else [(_THEME, label, "other")]
        )
        for question, answer, kind in said:
            lines[file].append(f"{image}:{' ' * things}{question}{answer}\n")
            id = f"{name.removesuffix('.txt')}_{len(lines[file])}"
            found[file].append(
                Sample(
                    sample.images,
                    turns=turns((question, answer, kind)),
                    meta={"id": id, "image": image, "source": source},
                )
            )
    for (source, name), text in lines.items():
        folder = out / "RSIVQA" / source
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(text), encoding="utf-8")
    expected = {"all": [sample for file in files for sample in found[file]]}
    for source in SOURCES:
        expected[source] = [sample for file in files if file[0] == source for sample in found[file]]
    return {split: samples for split, samples in expected.items() if samples}


FORMAT = Format(write, parts=("instances",))
