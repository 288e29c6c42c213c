"""SkyScript's suite and AIR-SLT, from files in the published layout to metrics.json."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.app import run
from rsvlm.data.datasets.skyscript_bench import BENCHES
from rsvlm.encoders.clip.model import CLIP
from rsvlm.evaluation import clip
from rsvlm.evaluation.clip import ZeroShotEvaluation

BASE = ["model=clip_tiny", "trainer=cpu", "logger=none", "data.workers=0"]
SEVEN = ("aid", "eurosat", "fmow", "millionaid", "patternnet", "nwpu", "rsicb")
FINE = ("skyscript_cls", "roof_shape_v1", "smoothness_v1", "surface_v1")


def evaluate(compose, out, *words):
    values = run.evaluate(compose("eval", [*BASE, *words]), out)
    facts = json.loads((out / "metrics.json").read_text())
    return values, facts["results"]


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """All of SkyScript's benchmarks with three images each."""
    root = tmp_path_factory.mktemp("benchmark")
    draw = np.random.RandomState(0)
    for bench in BENCHES.values():
        folder = root / bench.folder
        (folder / "images").mkdir(parents=True)
        header = "filepath,label_v1,label_v2" if bench.versions else "filepath,label"
        rows = [header]
        for i, label in enumerate(("airport", "beach", "pond")):
            pixels = draw.randint(0, 255, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            rows.append(f"images/{i}.png,{label}" + (",beach" if bench.versions else ""))
        (folder / bench.table).write_text("\n".join(rows) + "\n")
        for suffix in ("_v1", "_v2") if bench.versions else ("",):
            (folder / f"classnames{suffix}.txt").write_text("airport\nbeach\npond\n")
    return root


def test_the_suite_measures_each_set_and_their_mean(compose, benchmarks, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        ZeroShotEvaluation, "draw", lambda self, records, data, folder: drawn.append(folder)
    )
    words = ["experiment=eval_zeroshot_skyscript_suite", f"data.root={benchmarks}"]
    values, rows = evaluate(compose, tmp_path, *words)
    each = [values[f"test/{name}/skyscript/top1"] for name in SEVEN]
    assert values["test/skyscript_suite/skyscript/top1"] == pytest.approx(sum(each) / 7)
    mean = next(row for row in rows if row["name"] == "test/skyscript_suite/skyscript/top1")
    assert mean["count"] == 21
    assert mean["split"] == "+".join(SEVEN)
    assert drawn == [tmp_path / "pictures" / name for name in SEVEN]
    assert "skyscript_suite" in (tmp_path / "report.html").read_text()


def test_the_fine_grained_sets_have_prompts_of_their_own(
    compose, benchmarks, tmp_path, monkeypatch
):
    monkeypatch.setattr(ZeroShotEvaluation, "draw", lambda *args: None)
    prompts = []
    fill = clip.prompt_sets.fill

    def remember(template, name):
        prompts.append(fill(template, name))
        return prompts[-1]

    monkeypatch.setattr(clip.prompt_sets, "fill", remember)
    words = ["experiment=eval_zeroshot_skyscript_fine", f"data.root={benchmarks}"]
    values, _ = evaluate(compose, tmp_path, *words)
    assert {name.split("/")[1] for name in values} == set(FINE)
    assert "a satellite photo of building, pond." in prompts
    assert "a satellite image of road, pond" in prompts
    assert prompts[0] == "a satellite photo of airport."
    assert len(prompts) == 4 * 2 * 3


def test_airslt_encodes_an_images_windows_once_for_all_its_sentences(
    compose, tmp_path, monkeypatch
):
    root = tmp_path / "AIR-SLT"
    (root / "annotations").mkdir(parents=True)
    (root / "imgs").mkdir()
    draw = np.random.RandomState(1)
    region = [[100, 120], [420, 120], [420, 500], [100, 500]]
    lines = []
    for number, sentences in ((0, ("a pond", "two fields")), (1, ("a road",))):
        coarse = Image.fromarray(draw.randint(0, 255, (12, 13, 3)).astype(np.uint8))
        coarse.resize((800, 780), Image.Resampling.BICUBIC).save(root / "imgs" / f"{number}.jpg")
        lines += [
            {"caption": s, "jpg_name": f"{number}.jpg", "points": [region]} for s in sentences
        ]
    (root / "annotations" / "anno.json").write_text(json.dumps(lines))
    windows = []
    before = CLIP.encode_image

    def spy(self, images, normalize=False):
        windows.append(len(images))
        return before(self, images, normalize)

    monkeypatch.setattr(CLIP, "encode_image", spy)
    words = ["experiment=eval_selo_airslt", f"data.root={root}", "evaluation.protocol=selo"]
    values, rows = evaluate(compose, tmp_path / "run", *words)
    from rsvlm.metrics.selo import windows as cut

    assert sum(windows) == 2 * len(cut(780, 800))
    assert {row["count"] for row in rows} == {3}
    word = {name.rpartition("/")[2]: value for name, value in values.items()}
    assert set(word) == {"rsu", "ras", "rda", "rmi"}
    rmi = 0.4 * word["rsu"] + 0.35 * (1 - word["ras"]) + 0.25 * word["rda"]
    assert word["rmi"] == pytest.approx(rmi)
    assert torch.isfinite(torch.tensor(list(values.values()))).all()
