"""DIOR-RSVG: XML like VOC's, and lists of numbers that count the objects of all files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.grounding import asked, refer


def write(out: Path, splits: Splits) -> Expected:
    """Writes `Annotations/`, `JPEGImages/` and the three lists."""
    (out / "Annotations").mkdir()
    numbers: dict[str, list[int]] = {split: [] for split in splits}
    expected: dict[str, list[Sample]] = {split: [] for split in splits}
    count = 0
    for number, (split, sample) in enumerate(
        (split, sample) for split, scenes in splits.items() for sample in scenes
    ):
        phrased = asked(sample)
        if not phrased:
            continue
        # Published numbers have gaps: DIOR's pictures without an expression are left out.
        name = f"{2 * number + 1:05d}"
        picture = save(sample.images[0], out / "JPEGImages" / f"{name}.jpg")
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "folder").text = "DIOR_RSVG"
        ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
        size = ElementTree.SubElement(root, "size")
        for key, value in zip(("width", "height", "depth"), (*picture.size, 3), strict=True):
            ElementTree.SubElement(size, key).text = str(value)
        for instance in phrased:
            assert instance.box is not None
            box = [int(value) for value in instance.box]
            node = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(node, "name").text = instance.category
            ElementTree.SubElement(node, "pose").text = "Unspecified"
            corners = ElementTree.SubElement(node, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(corners, key).text = str(value)
            ElementTree.SubElement(node, "description").text = instance.phrase
            numbers[split].append(count)
            expected[split].append(
                refer(
                    sample.images,
                    Instance(0, instance.category, phrase=instance.phrase, box=instance.box),
                    {"id": str(count), "image": f"{name}.jpg"},
                )
            )
            count += 1
        ElementTree.indent(root)
        ElementTree.ElementTree(root).write(out / "Annotations" / f"{name}.xml", encoding="utf-8")
    for split in ("train", "val", "test"):
        lines = "".join(f"{number}\n" for number in numbers.get(split, ()))
        (out / f"{split}.txt").write_text(lines, encoding="utf-8")
    return expected


FORMAT = Format(write, parts=("references",))
