"""ReasonSeg: polygons and questions as published, what is ignored, and files that are wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.collate.pixel import PixelCollate, readable
from rsvlm.data.datasets.reasonseg import ReasonSeg
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.text.segment_templates import SegmentTemplates
from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.tokenizers import word_tokenizer
from rsvlm.errors import UserError
from rsvlm.evaluation.segmentation import SegmentationEvaluation
from rsvlm.report.masks import in_words


def box(x0, y0, x1, y1):
    """Corners of whole pixels, the last ones included."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


SHAPES = (
    {"label": "target", "points": box(2, 2, 11, 11)},
    {"label": "ignore", "points": box(5.7, 5.2, 8, 8)},
    {"label": "target", "points": box(7, 7, 7, 7)},
    {"label": "ignore_it", "points": box(20, 0, 29, 9)},
    {"label": "flag", "points": box(0, 0, 19, 19)},
)


def published(root, split="val", **more):
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    said = {"text": ["Who lands here?", "What is parked?"], "is_sentence": True}
    rows = {"1": said | {"shapes": SHAPES}, "2": {"text": ["the pond"], "shapes": SHAPES[:1]}}
    for name, row in rows.items():
        Image.new("RGB", (30, 20), (90, 120, 60)).save(folder / f"{name}.jpg")
        (folder / f"{name}.json").write_text(json.dumps(row | more.get(f"row{name}", {})))
    return root


def test_polygons_and_questions_as_published(tmp_path):
    data = ReasonSeg(published(tmp_path), "val")
    assert [e.id for e in data.entries] == ["1", "2"] and not data.problems
    first, second = data[0], data[1]
    # The smaller polygon lies on top: a hole that is ignored, and a target pixel in it.
    assert first.instances[0].mask.sum() == 100 - 16 + 1 and first.instances[0].mask[7, 7]
    assert first.meta["ignored"].sum() == 16 - 1 + 100 and "ignored" not in second.meta
    assert first.instances[0].box == (2, 2, 12, 12) and second.instances[0].mask.sum() == 100
    # A measured picture is asked once, a training picture all that its file asks.
    assert [t.text for t in first.turns] == ["Who lands here?"] * 2
    assert (first.turns[0].kind, second.turns[0].kind) == ("reason", "refer")
    assert len(ReasonSeg(published(tmp_path, "train"), "train")[0].turns) == 4
    # As it lies in LISA's own folder.
    published(tmp_path / "dataset" / "reason_seg" / "ReasonSeg")
    assert len(ReasonSeg(tmp_path / "dataset", "val")) == 2


def test_what_is_wrong_is_told_with_its_file(tmp_path):
    shapes = [{"label": "target", "points": [[1, "x"]]}]
    data = ReasonSeg(published(tmp_path, row2={"shapes": shapes, "text": [" "]}), "val")
    told = "\n".join(data.problems)
    assert "1 polygon(s) have no corners" in told and "2.json (shape 0)" in told
    assert "1 file(s) have no target polygon" in told and "no question" in told
    assert not data[1].instances[0].mask.any() and not data[1].turns
    for row, message in (({"text": 3}, "`text` is no list"), ({"shapes": {}}, "`shapes` is no")):
        with pytest.raises(UserError, match=rf"2\.json: {message}"):
            ReasonSeg(published(tmp_path, row2=row), "val")
    (tmp_path / "val" / "2.json").write_text('{"text": [')
    with pytest.raises(UserError, match=r"2\.json is not valid JSON"):
        ReasonSeg(tmp_path, "val")
    published(tmp_path)
    (tmp_path / "val" / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images.*2\.jpg"):
        ReasonSeg(tmp_path, "val")
    assert len(ReasonSeg(tmp_path, "val", missing="skip")) == 1
    with pytest.raises(UserError, match="no folder test"):
        ReasonSeg(tmp_path, "test")


def test_a_question_is_asked_once_in_the_systems_words(tmp_path):
    tokenizer = word_tokenizer(["where"])
    tokenizer.add_tokens(["[SEG]", *(f"[SEG{i}]" for i in range(6))])
    view = TransformedDataset(
        ReasonSeg(published(tmp_path), "val"), Preprocess(16), training=False, caption="all"
    )
    asked = {
        "lisa": "Who lands here? Please output segmentation mask.",
        "geopix": "[segment] Who lands here?",
    }
    for system, first in asked.items():
        collate = PixelCollate(
            tokenizer,
            seg=system,
            generation=True,
            kinds=("segment",),
            instructions=SegmentTemplates(system, tasks=["segment"], measuring=True),
        )
        batch = collate([view[(0, i)] for i in range(2)])
        assert len(batch) == 2 and batch.instructions[0] == first
        assert [len(masks) for masks in batch.masks] == [1, 1]
        assert batch.ignored[0].shape == (20, 30) and batch.ignored[1] is None


def test_explanations_are_learned_with_the_mask_and_alone(tmp_path):
    published(tmp_path, "train")
    with pytest.raises(UserError, match=r"train\.json is not there.*explanations=false"):
        ReasonSeg(tmp_path, "train", explanations=True)
    (tmp_path / "explanatory").mkdir()
    file = tmp_path / "explanatory" / "train.json"
    row = {"image": "1.jpg", "query": "Who lands here?", "outputs": "Planes: it is long and flat."}
    file.write_text(json.dumps([row, row | {"image": "gone.jpg"}]))
    tokenizer = word_tokenizer(["where"])
    tokenizer.add_tokens(["[SEG]"])
    view = TransformedDataset(
        ReasonSeg(tmp_path, "train", explanations=True),
        Preprocess(16),
        training=False,
        caption="all",
    )
    words = SegmentTemplates("lisa", tasks=["segment"], measuring=True)
    batch = PixelCollate(tokenizer, seg="lisa", generation=True, instructions=words)(
        [view[(0, i)] for i in range(2)]
    )
    asked = dict(zip(batch.instructions, zip(batch.answers, batch.masks, strict=True), strict=True))
    text, masks = asked["Who lands here? Please output segmentation mask and explain why."]
    assert text == f"Sure, [SEG] . {row['outputs']}" and len(masks) == 1
    text, masks = asked["Who lands here?"]
    assert text == row["outputs"] and not len(masks)
    assert len(batch) == 4 + 1
    file.write_text(json.dumps([row, {"image": "2.jpg"}]))
    with pytest.raises(UserError, match="entry 1 has no texts image, query, outputs"):
        ReasonSeg(tmp_path, "train", explanations=True)


def test_ignored_pixels_count_for_nothing_under_lisas_rule():
    true, told, ignored = (np.zeros((8, 8), bool) for _ in range(3))
    true[:4, :4] = told[:4, :8] = ignored[:4, 4:] = True
    facts = DatasetFacts("reasonseg", "val", 1)

    def measured(protocol, **more):
        record = PredictionRecord(
            0,
            masks=[rle.encode(told)],
            true_masks=[rle.encode(true)],
            more={"height": 8, "width": 8, "classes": ["target"], **more},
        )
        return SegmentationEvaluation(protocol=protocol).metric_from([record], facts).values

    for protocol, word in (("lisa", "ciou"), ("pixellm", "ciou")):
        assert measured(protocol)[word] == pytest.approx(50)
        assert measured(protocol, ignored=rle.encode(ignored))[word] == pytest.approx(100)
    assert measured("rmsin", ignored=rle.encode(ignored))["oiou"] == pytest.approx(50)


def test_the_truth_of_a_failure_sheet_is_in_words():
    true = np.zeros((9, 9), bool)
    true[:2, :2] = True
    one = PredictionRecord(
        0, answer="It is [SEG] and [SEG].", true_masks=[rle.encode(true), rle.encode(true.T[::-1])]
    )
    assert in_words(one) == "true: object (upper left, 4 px); object (lower left, 4 px)"
    one.more["classes"] = ["court"]
    assert in_words(one).startswith("true: court (upper left, 4 px); object (")
    absent = PredictionRecord(1, answer="There is no plane in the image.")
    assert in_words(absent) == "true: There is no plane in the image."
    tokens = [f"[SEG{i}]" for i in range(6)]
    for joint in ("", " "):
        assert readable(f"It is {joint.join(tokens)} .", "geopix") == "It is [SEG] ."
