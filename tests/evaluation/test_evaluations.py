"""The evaluations behind `evaluation=`, from their recipes to metrics.json."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.app import run
from rsvlm.encoders.clip.model import clip, tokenizer
from rsvlm.errors import UserError
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.remotecount import count_prompts

BASE = ["model=clip_tiny", "trainer=cpu", "logger=none", "data.workers=0", "data.eval_batch_size=7"]
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}


def evaluate(compose, out, *words):
    values = run.evaluate(compose("eval", [*BASE, *words]), out)
    rows = json.loads((out / "metrics.json").read_text())["results"]
    assert {row["name"] for row in rows} == set(values)
    return values, rows


def paint(folder, colour, count, seed):
    draw = np.random.RandomState(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        noise = draw.randint(-25, 25, (64, 64, 3)) + np.array(colour)
        image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Three classes that any features tell apart, in two splits."""
    root = tmp_path_factory.mktemp("colours")
    for s, (split, count) in enumerate((("train", 8), ("test", 6))):
        for c, (name, colour) in enumerate(COLOURS.items()):
            paint(root / split / name, colour, count, 10 * s + c)
    return root


def folder_words(root):
    return [
        "data=whurs19",
        f"data.root={root}",
        "data.dataset._target_=rsvlm.data.datasets.scene_folder.SceneFolder",
        "+data.dataset.name=colours",
        "data.splits.train=train",
        "data.splits.test=test",
    ]


@pytest.mark.parametrize("kind", ["linear_probe", "knn"])
def test_probes_learn_from_one_split_and_are_measured_on_the_other(
    compose, colours, tmp_path, kind
):
    # Of eight images a class: the published twenty neighbours would reach into every class.
    words = ["evaluation.k=3"] if kind == "knn" else ["evaluation.epochs=200"]
    values, rows = evaluate(compose, tmp_path, *folder_words(colours), f"evaluation={kind}", *words)
    # Other numbers than the published ones are another protocol.
    assert values[f"test/colours/custom_{kind}/top1"] == 100
    row = next(row for row in rows if row["name"].endswith("/top1"))
    assert (row["count"], row["split"]) == (18, "test")
    assert row["chance"] == pytest.approx(100 / 3)
    assert (tmp_path / "pictures" / "confusion.png").is_file()
    assert (tmp_path / "pictures" / "predictions.png").is_file()


@pytest.mark.parametrize(
    ("words", "say"),
    [
        (["data.splits.train=test"], "must not be tested on what it learnt from"),
        (["data.splits.train=null"], r"data\.splits\.fit="),
    ],
)
def test_a_probe_that_would_cheat_or_learn_nothing_is_refused(
    compose, colours, tmp_path, words, say
):
    with pytest.raises(UserError, match=say):
        evaluate(compose, tmp_path, *folder_words(colours), "evaluation=knn", *words)


def test_a_probe_of_overlapping_parts_is_refused(compose, colours, tmp_path):
    """`all` holds what `train` holds: WHU-RS19's published zero-shot split is such a one."""
    files = {"train": ["0.png", "1.png"], "most": ["0.png", "2.png"]}
    for name, colour in COLOURS.items():
        paint(tmp_path / "data" / name, colour, 3, 0)
    listed = {
        split: [[f"{name}/{file}", i, name] for i, name in enumerate(COLOURS) for file in held]
        for split, held in files.items()
    }
    (tmp_path / "data" / "split.json").write_text(json.dumps(listed))
    words = [
        *folder_words(tmp_path / "data"),
        "+data.dataset.split_file=split.json",
        "data.splits.test=most",
        "evaluation=knn",
    ]
    with pytest.raises(UserError, match="train and most of colours share 3 images"):
        evaluate(compose, tmp_path / "run", *words)


def test_a_probe_needs_classes(compose, tmp_path):
    root = count_table(tmp_path, ["one plane", "two planes"])
    with pytest.raises(UserError, match="has no classes"):
        words = ["experiment=eval_remotecount", "evaluation=knn", f"data.root={root}"]
        evaluate(compose, tmp_path / "run", *words)


def count_table(folder, captions):
    root = folder / "counts"
    root.mkdir()
    with (root / "test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filepath", "title"))
        for i, caption in enumerate(captions):
            Image.new("RGB", (64, 64), (20 * i, 90, 200 - 15 * i)).save(root / f"{i}.png")
            writer.writerow((f"{i}.png", caption))
    return root


@pytest.mark.parametrize("protocol", ["remotecount", "remotecount_digits"])
def test_remotecount_asks_for_the_number_that_fits(compose, tmp_path, protocol):
    captions = [f"there are {word} ships." for word in ("two", "three", "seven", "ten")]
    root = count_table(tmp_path, captions)
    words = ["experiment=eval_remotecount", f"data.root={root}", f"evaluation.protocol={protocol}"]
    values, rows = evaluate(compose, tmp_path / "run", *words, "data.eval_batch_size=3", "seed=5")
    # The same model by hand.
    torch.manual_seed(5)
    model = clip("tiny", activation="gelu").eval()
    within = np.zeros(11)
    from rsvlm.inference.api import encode_images

    for i, caption in enumerate(captions):
        prompts, number = count_prompts(caption, digits=protocol.endswith("digits"))
        with torch.no_grad():
            image = encode_images(model, [root / f"{i}.png"])[0]
            texts = model.encode_text(tokenizer("tiny")(prompts), normalize=True)
        rank = (texts @ image).argsort(descending=True).tolist().index(number - 1)
        within[rank + 1 :] += 25
    for k in range(1, 11):
        assert values[f"test/remotecount/{protocol}/top{k}"] == pytest.approx(within[k])
    assert {row["count"] for row in rows} == {4}
    assert (tmp_path / "run" / "pictures" / "confusion.png").is_file()


def test_a_caption_without_a_number_is_an_error_or_left_out_and_counted(compose, tmp_path):
    root = count_table(tmp_path, ["two ships", "many ships", "a ship", "four or five ships"])
    words = ["experiment=eval_remotecount", f"data.root={root}"]
    with pytest.raises(UserError, match=r"1\.png: no number.*without_number=skip"):
        evaluate(compose, tmp_path / "a", *words)
    _, rows = evaluate(compose, tmp_path / "b", *words, "evaluation.without_number=skip")
    assert {row["count"] for row in rows} == {1}
    none = count_table(tmp_path / "b", ["many ships", "some boats"])
    words = ["experiment=eval_remotecount", f"data.root={none}", "evaluation.without_number=skip"]
    with pytest.raises(UserError, match="no caption has exactly one number"):
        evaluate(compose, tmp_path / "c", *words)


def test_binary_asks_for_each_class_by_itself(compose, colours, tmp_path):
    values, rows = evaluate(compose, tmp_path, *folder_words(colours), "evaluation=binary")
    assert set(values) == {f"test/colours/binary/{word}" for word in ("f1", "precision", "recall")}
    # A threshold of -1 says yes to all: a third is right, all are found.
    assert 50 <= values["test/colours/binary/f1"] <= 100
    assert {row["count"] for row in rows} == {18}
    words = ["evaluation=binary", "evaluation.templates=['{} seen from above']"]
    values, _ = evaluate(compose, tmp_path / "own", *folder_words(colours), *words)
    assert "test/colours/custom_binary/f1" in values
    assert "custom_binary" in PROTOCOLS["classification"]
