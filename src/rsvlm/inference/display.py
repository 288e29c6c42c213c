"""What predict.py prints and draws: answers, boxes over their picture, pictures that were found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.folders import printable
from rsvlm.data.sample import Answer, Turn
from rsvlm.errors import UserError

#: How many times larger than the model's images a picture is before that is told.
LARGE = 8
#: Found pictures on a sheet.
SHOWN = 5


def show(
    model: Any,
    out: Path,
    *,
    pictures: Sequence[str],
    prompt: str,
    gallery: str | None = None,
    picture: str | None = None,
    batch_size: int = 8,
) -> Any:
    """Asks a model as the user typed it, and prints and draws the answer, or writes a file of many.

    Args:
        model: ready to be asked.
        out: the run's folder, where `answer.png` goes.
        pictures: files, in the order in which they are shown; or folders, patterns and lists.
        prompt: question, candidate texts or what to look for; "" holds a dialogue where the model
            can.
        gallery: a folder of pictures or an index, to look through.
        picture: a file or folder of answers, or another file for the picture of the answer.
        batch_size: pictures asked about at a time, of many.

    Raises:
        UserError: nothing is asked, or `picture` is no name of a picture.
    """
    from rsvlm.inference import api, many
    from rsvlm.models.protocols import is_generator

    target = Path(picture).expanduser() if picture else free_name(out / "answer.png")
    table = target if target.suffix.lower() in ("", *many.TABLES) or target.is_dir() else None
    if table is None and target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(
            f"out={target}: answers go to a .jsonl or .csv file or a folder (answers.jsonl and the "
            "files of their masks), a picture to a .png or .jpg file."
        )
    if gallery:
        answer = api.search(model, gallery, prompt or None, list(pictures))
        for name, score in answer.retrieved[:10]:
            print(f"{score:8.4f}  {printable(name)}")
        for reason in answer.sources:
            print(f"left out: {reason}")
        draw_found(answer, prompt, gallery, target)
        return answer
    writes = is_generator(model)
    if not pictures or not (prompt or writes):
        raise UserError(
            'give a picture and a question, image=a.png prompt="an airport; a beach" (before= and '
            "after= for two dates), or a folder and a text, gallery=<folder> "
            'text="two runways".'
        )
    shown = _many(pictures) or ([list(pictures)] if table is not None else None)
    if shown is not None:
        if picture and table is None:
            raise UserError(
                f"out={target} is one picture, and {len(shown)} are asked about: give a .jsonl or "
                ".csv file, as out=answers.jsonl, or a folder."
            )
        return many.ask_all(model, shown, prompt, out=table, batch_size=batch_size)
    if is_generator(model) and not prompt and model.takes_prompt and not model.describes:
        return dialogue(model, pictures, target)
    for path in pictures:
        tell_scale(model, path)
    answer = api.predict(model, list(pictures), prompt)
    for text, score in answer.candidates:
        print(f"{score:8.4f}  {text}")
    if not answer.candidates:
        print(answer.text)
    # Of experts that write one text together each part is all of it.
    one = len(answer.parts) > 1 and {part.text for part in answer.parts} == {answer.text}
    for part in answer.parts:
        said = "wrote this with the others" if part.weight else "had no say"
        said = said if one else repr(part.text)
        print(f"  {part.expert} ({part.weight:.2f}) was asked {part.prompt!r}: {said}")
    for text in answer.sources:
        print(f"  source {printable(text)}")
    draw_boxes(answer, pictures[0], target)
    from rsvlm.inference.mask_files import write_masks

    write_masks(answer, pictures[0], target)
    return answer


def _many(pictures: Sequence[str]) -> list[list[str]] | None:
    """For each question the pictures that it shows; None for one question."""
    from rsvlm.inference import many

    if len(pictures) == 1:
        found = many.listed(pictures[0])
        return None if found is None else [[path] for path in found]
    if len(pictures) == 2:
        paired = many.pairs(*pictures)
        return None if paired is None else [list(pair) for pair in paired]
    return None


def free_name(path: Path) -> Path:
    """The path, or one with a number where there is such a file already."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return found


def tell_scale(model: Any, path: str) -> None:
    """Says how much a large picture shrinks on its way to the model."""
    from rsvlm.data.images import size_of

    side = model.image_size
    try:
        wide, high = size_of(path)
    except OSError:
        return  # told where it is read
    if side and max(wide, high) >= max(LARGE * side, 2048):
        print(
            f"{path} is {wide} x {high} pixels and is scaled to {side} x {side} for the model: "
            f"what is smaller than about {max(wide, high) // side} pixels is lost. Cut it into "
            "tiles and give their folder, image=<folder>, to ask about its parts."
        )


def dialogue(model: Any, pictures: Sequence[Any], target: Path | None = None) -> Answer | None:
    """Questions from standard input, one a line, each with all that was said before it.

    Args:
        model: a model that writes.
        pictures: what the first question shows.
        target: where boxes are drawn, each answer's over the one before; None draws none.
    """
    from rsvlm.inference import api

    print("Ask; an empty line ends.")
    history: list[Turn] = []
    answer = None
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            question = ""
        if not question:
            return answer
        answer = api.predict(model, list(pictures), question, history)
        print(answer.text)
        if target is not None:
            draw_boxes(answer, pictures[0], target)
            from rsvlm.inference.mask_files import write_masks

            write_masks(answer, pictures[0], target)
        shown = () if history else tuple(range(len(pictures)))
        history += [Turn("user", question, shown), Turn("assistant", answer.text)]


def draw_boxes(answer: Answer, picture: str | Path, target: Path) -> Path | None:
    """Prints the boxes of an answer in pixels of the stored picture, and draws them over it.

    Args:
        answer: as a model gives it.
        picture: the file that it speaks of.
        target: the picture to write.

    Returns:
        `target`, or None where the answer has no box.
    """
    if not answer.boxes:
        return None
    from rsvlm.data.images import read_any
    from rsvlm.report.boxes import boxed

    image, _ = read_any(picture)
    wide, high = image.size
    angles = answer.angles or [None] * len(answer.boxes)
    placed: list[Any] = []
    print(f"boxes, x0 y0 x1 y1 in pixels of {wide} x {high}:")
    for box, angle in zip(answer.boxes, angles, strict=True):
        turn = "" if angle is None else f"  turned by {angle:g} degrees"
        print("  " + " ".join(f"{v:.1f}" for v in box) + turn)
        placed.append(box if angle is None else (box, angle))
    # A small picture is enlarged, so that the line hides little of it.
    side = max(512, wide, high)
    write(boxed(image, told=placed, side=side if side > max(wide, high) else None), target)
    return target


def draw_found(answer: Answer, text: str, gallery: str, target: Path) -> Path | None:
    """A sheet of the best pictures found, where they lie at hand.

    Args:
        answer: with `retrieved`.
        text: what was looked for.
        gallery: the folder, or an index that names it.
        target: the sheet.

    Returns:
        `target`, or None where nothing was found or the index has come without its pictures.
    """
    from rsvlm.data.images import BrokenImage, read_any
    from rsvlm.report.retrieval_sheet import found_sheet
    from rsvlm.retrieval.gallery import Gallery

    best = answer.retrieved[:SHOWN]
    if not best:
        return None
    source = Path(gallery)
    root = source if source.is_dir() else Gallery.read(source).root
    if root is None or not root.is_dir():
        print(f"no sheet: the pictures of {gallery} are not at hand (it names {root}).")
        return None
    shown = []
    for name, score in best:
        try:
            shown.append((read_any(root / name)[0], name, score))
        except BrokenImage as error:
            print(f"not on the sheet: {error}")
    if not shown:
        return None
    found_sheet(shown, text, target)
    print(f"wrote {target}")
    return target


def write(image: Any, target: Path) -> None:
    """Saves a picture and says where.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
    except OSError as error:
        raise UserError(f"out={target} cannot be written ({error.strerror or error}).") from error
    print(f"wrote {target}")
