"""The page of a run: what it says, that it stands alone, and that its pictures are drawn."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm import report
from rsvlm.data.sample import Sample, SampleError
from rsvlm.errors import UserError
from rsvlm.metrics import Retrieval, ZeroShot, text_keys
from rsvlm.report import figures
from rsvlm.report.curves import read_log
from rsvlm.report.figures import Answered, Prediction

pytestmark = pytest.mark.usefixtures("whole_pictures")


def picture(colour, size=(40, 30)):
    return Image.new("RGB", size, colour)


def result(name, value, chance, **more):
    parts = name.split("/")
    return {
        "name": name,
        "value": value,
        "unit": "%",
        "protocol": parts[2],
        "dataset": parts[1],
        "split": "test",
        "count": 1093,
        "chance": chance,
        "skipped": 0,
    } | more


def make_run(folder, *, results=True, log=True):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: clip_<tiny> & co\nseed: 3\n")
    if log:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("step", "name", "value"))
            for step in range(40):
                writer.writerow((step, "train/loss", 4 - step / 20))
                writer.writerow((step, "train/lr", 1e-3))
            writer.writerow((10, "val/rsicd/remoteclip/mean_recall", 1.5))
            writer.writerow((30, "val/rsicd/remoteclip/mean_recall", 3.25))
            file.write("39,train/lo")  # killed here
    if results:
        rows = [
            result("test/rsicd/remoteclip/i2t_r1", 3.2, 0.0915),
            result("test/rsicd/remoteclip/mean_recall", 9.216, 0.489),
            result("test/whu_rs19/skyscript/top1", 61.5, 5.26, count=1005),
        ]
        held = {
            "run": str(folder),
            "checkpoint": "runs/x/best.ckpt",
            "git_commit": "0123456789abcdef0123456789abcdef01234567+",
            "skipped": ["a.png: truncated"],
            "results": rows,
        }
        (folder / "metrics.json").write_text(json.dumps(held))
    return folder


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_says_what_was_measured(tmp_path):
    run = make_run(tmp_path / "run")
    file = report.write_report(run)
    assert file == run / "report.html"
    page = Page(file.read_text(encoding="utf-8"))
    assert not page.open
    text = " ".join(" ".join(page.text).split())
    for word in (
        "clip_<tiny> & co",
        "9.22",
        "chance 0.489 · 18.8 × chance",
        "61.50",
        "1,093 samples",
        "0123456789ab with changes on top",
        "a.png: truncated",
        "runs/x/best.ckpt",
        "seed: 3",
        "every caption is kept",
        "Zero-shot with SkyScript's two templates",
    ):
        assert word in text, word


def test_the_page_stands_alone(tmp_path):
    file = report.write_report(make_run(tmp_path / "run"))
    page = Page(file.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "a"} & set(tags)
    addresses = [a[key] for _, a in page.tags for key in ("src", "srcset", "href") if key in a]
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    style = re.search(r"<style>(.*?)</style>", file.read_text(), re.DOTALL).group(1)
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme:dark" in style
    kinds = {tag for tag, a in page.tags if a.get("media") == "(prefers-color-scheme: dark)"}
    assert kinds == {"source"}
    for address in addresses:
        Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).verify()


def test_large_pictures_are_packed(tmp_path):
    run = make_run(tmp_path / "run", log=False)
    (run / "pictures").mkdir()
    noise = np.random.RandomState(0).randint(0, 256, (500, 500, 3)).astype(np.uint8)
    Image.fromarray(noise).save(run / "pictures" / "photo.png")
    picture("red").save(run / "pictures" / "small.png")
    text = report.write_report(run).read_text()
    assert text.count("data:image/webp") == 1 and text.count("data:image/png") == 1


def test_several_runs_on_one_page(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    file = report.write_report(*runs, out=tmp_path / "both" / "page.html")
    text = file.read_text()
    assert text.count("<h1>") == 1 and text.count("9.22") >= 2
    assert text.count("<dt><code>remoteclip</code>") == 1


def test_a_run_that_was_not_evaluated_has_a_page(tmp_path):
    text = report.write_report(make_run(tmp_path / "run", results=False)).read_text()
    assert "has not been evaluated" in text and "data:image/png" in text


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(UserError, match="no run's folder"):
        report.write_report(tmp_path)
    with pytest.raises(UserError, match="at least one"):
        report.write_report()
    run = make_run(tmp_path / "run")
    (run / "metrics.json").write_text('{"results": ')
    with pytest.raises(UserError, match=r"not a run's metrics\.json"):
        report.write_report(run)


def test_the_log_survives_a_cut_row(tmp_path):
    log = read_log(make_run(tmp_path / "run") / "metrics.csv")
    assert set(log) == {"train/loss", "train/lr", "val/rsicd/remoteclip/mean_recall"}
    assert log["val/rsicd/remoteclip/mean_recall"] == ([10, 30], [1.5, 3.25])


def both(path):
    """The light and the dark picture, and that they differ."""
    light, dark = (np.asarray(Image.open(p)) for p in (path, path.with_suffix(".dark.png")))
    assert light.shape == dark.shape
    assert light[0, 0, :3].min() > 240 and dark[0, 0, :3].max() < 60
    return light


def has(pixels, colour):
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return bool((np.abs(pixels[..., :3].astype(int) - (red, green, blue)) < 3).all(-1).any())


def test_curves(tmp_path):
    run = make_run(tmp_path / "run")
    file = report.loss_curves(run / "metrics.csv", tmp_path / "pictures" / "loss.png")
    assert has(both(file), "#1f6fb2")
    (tmp_path / "empty.csv").write_text("step,name,value\n1,train/loss,nan\n")
    assert report.loss_curves(tmp_path / "empty.csv", tmp_path / "no.png") is None
    (tmp_path / "bad.csv").write_text("1,train/loss,nan\n2,train/loss,inf\n3,train/lr,0\n")
    assert report.loss_curves(tmp_path / "bad.csv", tmp_path / "nan.png").is_file()


GREEN = "#15803d"


@pytest.mark.parametrize("hit", [True, False])
def test_hits_are_green_and_nothing_else_is(tmp_path, hit):
    answers = [picture(c) for c in ("navy", "gray", "tan")]
    scores, rank = [0.5, 0.4, 0.3], 2 if hit else 88
    row = Answered("the cost is 3$ or 4$ a plane", answers, [False, hit, False], scores, rank)
    sheet = figures.retrieval_sheet([row], tmp_path / "texts.png", title="texts $x")
    assert has(both(sheet), GREEN) == hit
    row = Answered(answers[0], ["one", "two " * 90, "three"], [False, hit, False], scores, rank)
    sheet = figures.retrieval_sheet([row], tmp_path / "images.png")
    assert has(both(sheet), GREEN) == hit


def test_predictions_and_confusion(tmp_path):
    rows = [
        Prediction(picture("gray"), "river", [("river", 0.8), ("pond", 0.1)]),
        Prediction(picture("tan"), "desert", [("beach", 0.7), ("desert", 0.2)]),
    ]
    assert has(both(report.predictions(rows, tmp_path / "p.png", title="p")), GREEN)
    assert not has(both(report.predictions(rows[1:], tmp_path / "q.png")), GREEN)
    matrix = np.array([[8, 2], [0, 0]])
    file = report.confusion_matrix(matrix, ["river", "a class without samples"], tmp_path / "c.png")
    both(file)
    many = [f"class {i}" for i in range(45)]
    both(report.confusion_matrix(np.eye(45) * 7, many, tmp_path / "many.png"))


class Toy:
    """Twelve flat images with two captions each, two classes."""

    name = "toy"
    classes = ("dark", "light")

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 7:
            raise SampleError("7.png is broken")
        tensor = torch.full((3, 20, 20), 20 * index, dtype=torch.uint8)
        image = tensor if index % 2 else Image.fromarray(tensor.permute(1, 2, 0).numpy())
        meta = {"id": str(index), "dataset": "toy", "split": "test", "licence": "none"}
        texts = [f"grey {index}", f"tone {index}"]
        return Sample(images=[image], texts=texts, label=index // 6, meta=meta)


def test_pictures_from_computed_metrics(tmp_path):
    toy = Toy()
    features = torch.nn.functional.normalize(
        torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    seen = torch.tensor([i for i in range(12) if i != 7])
    owner = torch.arange(11).repeat_interleave(2)
    texts = [text for i in seen.tolist() for text in toy[i].texts]
    for protocol in ("remoteclip", "skyscript"):
        metric = Retrieval(protocol, examples=3)
        metric.update(features[seen], features[seen][owner], owner, seen, text_keys(texts))
        metric.compute()
        files = report.draw_retrieval(*metric.examples(), protocol, toy, tmp_path / protocol)
        assert [f.name for f in files] == ["retrieval_texts.png", "retrieval_images.png"]
        assert all(has(both(file), GREEN) for file in files)
    zero_shot = ZeroShot(toy.classes)
    zero_shot.set_text_features(torch.eye(2, 8)[None])
    labels = torch.arange(12) // 6
    zero_shot.update(features, labels)
    zero_shot.compute()
    assert len(report.draw_classification(zero_shot, toy, tmp_path)) == 1
    files = report.draw_classification(
        zero_shot, toy, tmp_path, scores=lambda at: zero_shot.logits(features[at]), count=30
    )
    assert [f.name for f in files] == ["confusion.png", "predictions.png"]
