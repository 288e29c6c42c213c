"""Tables of images and captions or classes: comma and tab separated, in several releases."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.skyscript import meta_name, name_meta, tag_meta
from rsvlm.data.datasets.table_parts import Part
from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    separator: str = ",",
    encoding: str = "utf-8",
) -> None:
    """Writes a table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header)
        writer.writerows(rows)


def _captioned(sample: Sample, id: str, **meta: Any) -> Sample:
    return Sample(sample.images, texts=list(sample.texts), meta={"id": id} | meta)


def _dealt(samples: Sequence[Sample], hands: int) -> list[list[Sample]]:
    """Samples dealt to several tables, none of which stays empty."""
    return [list(samples[k::hands]) or list(samples[:1]) for k in range(hands)]


def write_pairs(out: Path, splits: Splits) -> Expected:
    """Writes `<split>.csv` with a line a caption, and `images/`."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split], rows = [], []
        for i, sample in enumerate(scenes):
            name = f"images/{split}_{i}.png"
            save(sample.images[0], out / name)
            rows += [(name, text) for text in sample.texts]
            expected[split].append(_captioned(sample, name))
        write_table(out / f"{split}.csv", ("filepath", "title"), rows)
    return expected


def _part(
    out: Path,
    part: Part,
    samples: Sequence[Sample],
    name: str,
    header: Sequence[str],
    *,
    folder: str | None = None,
    **form: str,
) -> list[Sample]:
    """One table of a release, a line a caption, with its images.

    Args:
        out: the release's folder.
        part: where table and images lie.
        samples: what it holds.
        name: pattern of the images' names, `{}` for a number.
        header: its columns.
        folder: the images' folder; by default the first of the part's.
        form: for `write_table`.
    """
    rows, found = [], []
    for i, sample in enumerate(samples):
        id = name.format(i)
        save(sample.images[0], out / (part.images[0] if folder is None else folder) / id)
        rows += [(id, text) for text in sample.texts]
        found.append(_captioned(sample, id))
    write_table(out / part.table, header, rows, **form)
    return found


def write_remoteclip(out: Path, splits: Splits) -> Expected:
    """Writes `csv_file/` and `data/`: the training scenes dealt to RET-3, DET-10 and SEG-4."""
    from rsvlm.data.datasets.cards import RemoteCLIPPairs

    parts, header = RemoteCLIPPairs.parts, ("filename", "title")
    expected: dict[str, list[Sample]] = {}
    for split, words in (
        ("train", ("ret3", "det10", "seg4")),
        ("test", ("test_rsicd", "test_rsitmd", "test_ucm")),
    ):
        if split in splits:
            samples = list(splits[split])
            for word, own in zip(words, _dealt(samples, len(words)), strict=True):
                expected[word] = _part(
                    out, parts[word], own, f"{word}_{{}}.jpg", header, separator="\t"
                )
            if split == "train":
                expected["train"] = [s for word in words for s in expected[word]]
    return expected


def write_georsclip(out: Path, splits: Splits) -> Expected:
    """Writes the test scenes as RSICD's table in GB 18030 and RSITMD's in UTF-8."""
    from rsvlm.data.datasets.cards import GeoRSCLIPEval

    rsicd, rsitmd = _dealt(list(splits["test"]), 2)
    # Two letters that differ between the encodings.
    rsicd[0].texts[0] += " 图像"
    parts, header = GeoRSCLIPEval.parts, ("filename", "title")
    return {
        "rsicd": _part(out, parts["rsicd"], rsicd, "airport_{}.jpg", header, encoding="gb18030"),
        "rsitmd": _part(out, parts["rsitmd"], rsitmd, "airport_{}.tif", header),
    }


def write_skyscript_retrieval(out: Path, splits: Splits) -> Expected:
    """Writes the test scenes as the tables of RSICD, RSITMD and UCM-Captions."""
    from rsvlm.data.datasets.cards import SkyScriptRetrieval

    parts = SkyScriptRetrieval.parts
    return {
        word: _part(
            out,
            part,
            own,
            f"{part.images[1]}/{{}}.jpg",
            ("filepath", "title"),
            folder=".",
        )
        for (word, part), own in zip(
            parts.items(), _dealt(list(splits["test"]), len(parts)), strict=True
        )
    }


_SKYSCRIPT = {
    "train": "SkyScript_train_top50pct_filtered_by_CLIP_openai",
    "val": "SkyScript_val_5K_filtered_by_CLIP_openai",
    "test": "SkyScript_test_30K_filtered_by_CLIP_openai",
}


def write_skyscript(out: Path, splits: Splits) -> Expected:
    """Writes `dataframe/`, `images2/` ... and the pickles of `meta2/` ..."""
    expected: dict[str, list[Sample]] = {}
    number = 0
    for split, scenes in splits.items():
        expected[split], rows = [], []
        for sample in scenes:
            kind, source = "awn"[number % 3], ("CH", "US", "P3")[number % 3]
            name = f"images{2 + number % 6}/{kind}{198234555 + number}_{source}_19.jpg"
            save(sample.images[0], out / name)
            label = scenes.classes[sample.label or 0]
            west, south = 8.5 + 0.01 * number, 47.3
            side = sample.meta["gsd"] / 111_320 * scenes.size
            tags = {
                "box": (west, south, west + side, south + side),
                "time": (2019, 7, 1 + number % 28, 10, 25),
                "center_tags": {"landuse": label},
                "surrounding_tags": [{"natural": "tree"}, {"highway": "footway"}],
            }
            file = out / meta_name(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(pickle.dumps(tags))
            rows.append((name, f"landuse of {label}", sample.texts[0]))
            expected[split].append(
                Sample(
                    sample.images,
                    texts=[f"landuse of {label}"],
                    meta={"id": name} | name_meta(name) | tag_meta(tags, file),
                )
            )
            number += 1
        table = out / "dataframe" / f"{_SKYSCRIPT[split]}.csv"
        write_table(table, ("filepath", "title", "title_multi_objects"), rows)
    return expected


def write_bench(out: Path, splits: Splits) -> Expected:
    """Writes the test scenes as the benchmark `aid`: classes by name, one line without a label."""
    scenes = splits["test"]
    expected, rows = [], []
    for i, sample in enumerate(scenes):
        name = f"aid/images/{i}.jpg"
        save(sample.images[0], out / name)
        rows.append((name, scenes.classes[sample.label or 0]))
        expected.append(Sample(sample.images, label=sample.label, meta={"id": name}))
    rows.append(("aid/images/unlabelled.jpg", ""))
    write_table(out / "aid" / "aid_img_txt_pairs_test.csv", ("filepath", "label"), rows)
    (out / "aid" / "classnames.txt").write_text("\n".join(scenes.classes), encoding="utf-8")
    return {"test": expected}


def write_precomp(out: Path, splits: Splits) -> Expected:
    """Writes AMFMN's text files; the names come once a caption in the test split alone."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        names, captions = [], []
        expected[split] = []
        for i, sample in enumerate(scenes):
            name = f"{split}_{i}.tif"
            save(sample.images[0], out / "images" / name)
            names += [name] * (len(sample.texts) if split == "test" else 1)
            captions += sample.texts
            expected[split].append(_captioned(sample, name))
        for word, lines in (("filename", names), ("caps", captions)):
            text = "".join(f"{line}\n" for line in lines)
            (out / f"{split}_{word}.txt").write_text(text, encoding="utf-8")
    return expected


PAIRS = Format(write_pairs)
REMOTECLIP = Format(write_remoteclip)
GEORSCLIP = Format(write_georsclip)
SKYSCRIPT = Format(write_skyscript, reader={"tags": True})
RETRIEVAL = Format(write_skyscript_retrieval)
BENCH = Format(write_bench, parts=(), told=(r"1 line\(s\) without a label",))
PRECOMP = Format(write_precomp)
