"""Each published format: the generated world written in it, read again, and compared."""

import re

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import DATASETS
from rsvlm.data.inspection.describe import describe
from rsvlm.data.transforms import to_pil
from rsvlm.errors import UserError
from rsvlm.synthetic.export import FORMATS, export

LENGTHS = {"train": 3, "val": 2, "test": 2}


def test_there_are_formats_to_walk():
    assert len(FORMATS) >= 45
    assert set(FORMATS) <= set(DATASETS)


def same_picture(read, drawn, path):
    read, drawn = (np.asarray(to_pil(i), np.int16) for i in (read, drawn))
    assert read.shape == drawn.shape
    lossy = str(path).lower().endswith((".jpg", ".jpeg"))
    # JPEG as `save` writes it is 1.6 to 3.2 grey values off (40 scenes); TIFF and PNG are exact.
    assert np.abs(read - drawn).mean() < 4 if lossy else (read == drawn).all()


def same_box(read, drawn):
    assert (read is None) == (drawn is None)
    if drawn is not None:
        np.testing.assert_allclose(read, drawn, atol=1e-3)


def counted_as(data, samples, where):
    """`inspect` finds as many dialogues, instances and maps as were written."""
    facts = describe(
        data, read=True, tokenizer=lambda texts, context_length: np.zeros((len(texts), 99))
    )
    assert facts["images"] == len(samples) and str(facts), where
    for key, parts in (("turns", "turns"), ("instances", "instances")):
        wanted = sum(len(getattr(sample, parts)) for sample in samples)
        assert facts.get(key, {}).get("count", 0) == wanted, f"{where}: {key}"
    maps = sum(bool(sample.semantic) for sample in samples)
    assert facts.get("maps", {}).get("samples", 0) == maps, where
    flags = [s.meta["changeflag"] for s in samples if "changeflag" in s.meta]
    assert facts.get("changed", (0, 0)) == (sum(flags), len(flags)), where
    assert not any("cannot be" in problem for problem in facts["problems"]), facts["problems"]


@pytest.mark.parametrize("word", sorted(FORMATS))
def test_what_was_drawn_is_what_is_read(tmp_path, word):
    form = FORMATS[word]
    expected = export(form, tmp_path / "out", LENGTHS, size=96)
    assert expected
    told = set()
    for split, samples in expected.items():
        data = DATASETS[word](tmp_path / "out", split, **form.reader)
        assert len(data) == len(samples) > 0
        for problem in data.problems:
            found = {pattern for pattern in form.told if re.search(pattern, problem)}
            assert found, f"{word} {split}: {problem}"
            told |= found
        for i, want in enumerate(samples):
            got = data[i]
            where = f"{word} {split} {i}"
            assert str(got.meta["id"]) == str(want.meta["id"]), where
            assert got.texts == want.texts and got.label == want.label, where
            assert got.layout == want.layout and len(got.images) == len(want.images), where
            for image, drawn, path in zip(
                got.images, want.images, data.entries[i].paths, strict=True
            ):
                same_picture(image, drawn, path)
            said = [(t.role, t.text, tuple(t.image_ids)) for t in got.turns]
            assert said == [(t.role, t.text, tuple(t.image_ids)) for t in want.turns], where
            assert [t.kind for t in got.turns] == [t.kind for t in want.turns], where
            assert len(got.instances) == len(want.instances), where
            for there, drawn in zip(got.instances, want.instances, strict=True):
                assert there.category == drawn.category and there.phrase == drawn.phrase, where
                assert there.image_id == drawn.image_id, where
                same_box(there.box, drawn.box)
                assert (there.angle is None) == (drawn.angle is None), where
                if drawn.angle is not None:
                    assert abs(there.angle - drawn.angle) < 1e-2, where
                assert (there.mask is None) == (drawn.mask is None), where
                if drawn.mask is not None:
                    assert (there.mask == drawn.mask).all(), where
            by_id = {instance.id for instance in got.instances}
            assert len(by_id) == len(got.instances), where
            assert all(set(turn.instance_ids) <= by_id for turn in got.turns), where
            for there in got.instances if hasattr(data, "categories") else ():
                if there.category_id is not None:
                    assert data.categories[there.category_id] == there.category, where
            assert len(got.semantic) == len(want.semantic), where
            for there, drawn in zip(got.semantic, want.semantic, strict=True):
                assert (there == drawn).all(), where
            for key, value in want.meta.items():
                same = got.meta[key] == value
                same = same.all() if isinstance(value, np.ndarray) else same
                assert same, f"{where}: meta {key}"
        counted_as(data, samples, f"{word} {split}")
    assert told == set(form.told)


def test_an_export_does_not_mix_with_what_is_there(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "old.png")
    with pytest.raises(UserError, match="not empty"):
        export(FORMATS["rsicd"], tmp_path, LENGTHS)
