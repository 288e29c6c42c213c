"""RS-RAG's own protocol, and what retrieval brought, from records and through a model."""

import math
from dataclasses import replace

import pytest
import torch
from knowledge_encoders import HashEncoder
from model_options import build
from PIL import Image

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord, record_of
from rsvlm.data.sample import Answer, Sample, Turn
from rsvlm.errors import UserError
from rsvlm.evaluation.base import with_context
from rsvlm.evaluation.records import fingerprint, result_rows
from rsvlm.evaluation.rsrag import RSRAGVQA, ClassAnswers, RSRAGCaptions
from rsvlm.metrics.context import answer_facts, answer_support
from rsvlm.models.rsrag import RSRAG
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_records import KnowledgeRecord

FACTS = DatasetFacts("rswk", "test_vqa", 3)
COLOURS = ("red", "green", "blue")


def test_facts_of_an_answer():
    assert answer_facts("The red hall", "a question") == [("the", "red", "hall")]
    assert answer_facts("Yes.") == [] == answer_facts("")
    assert answer_facts("12.51mm") == [("12.51", "mm")]
    said = "It was built in 1911 by Ada Lomond, and the mayor of Kestria opened it."
    assert answer_facts(said) == [("1911",), ("ada", "lomond"), ("kestria",)]
    assert answer_facts(said, "what was built in 1911?")[0] == ("ada", "lomond")


def test_support_is_the_share_of_facts_in_one_passage():
    held = ["Opened in 1911.", "By Ada Lomond; rain 12.51 mm"]
    assert answer_support("12.51mm", held) == 1
    said = "It was built in 1911 by Ada Lomond, and the mayor of Kestria opened it."
    assert answer_support(said, held) == pytest.approx(2 / 3)
    assert math.isnan(answer_support("yes", held))
    assert answer_support("911", held) == 0, "a word is no part of a word"


def given(id, answer, prediction, sources, own):
    told = [{"record": record, "text": text} for record, text in sources]
    held = {"sources": told, "own": own}
    return PredictionRecord(
        id, question="when?", answer=answer, prediction=prediction, knowledge=held
    )


def test_what_retrieval_brought():
    records = [
        given(0, "1911", "1911", [("a", "built 1911")], ["a"]),
        given(1, "1925", "1911", [("a", "built 1911"), ("b", "built 1925")], ["b"]),  # misled
        given(2, "1930", "1999", [], []),
    ]
    evaluation = RSRAGVQA(bootstrap=20)
    found = evaluation.measure(records, FACTS)
    told = {word: round(found.values[word], 2) for word in found.facts if word in found.values}
    assert told["oa"] == told["context_misled"] == 33.33
    assert (told["context_known"], told["context_none"]) == (66.67, 33.33)
    assert (told["context_recall"], told["context_r1"]) == (100.0, 50.0)
    assert (told["has_answer"], told["answer_support"]) == (66.67, 66.67)
    assert found.facts["context_recall"]["count"] == 2
    assert found.facts["answer_support"]["low"] <= 66.67 <= found.facts["answer_support"]["high"]
    rows = result_rows("test", "rswk", "test_vqa", "exact", found, skipped=0)
    names = {row["name"] for row in rows}
    assert "test/rswk/passages/answer_support" in names
    assert "test/rswk/rs_rag_answers_released/bleu1" in names and "test/rswk/exact/oa" in names
    plain = [replace(one, knowledge={}) for one in records]
    assert "context_recall" not in RSRAGVQA().measure(plain, FACTS).values


def test_the_script_leaves_empty_captions_out():
    said = [
        PredictionRecord(i, prediction=p, references=["a b c d"])
        for i, p in enumerate(["", "a b c d"])
    ]
    found = RSRAGCaptions().measure(said, FACTS)
    assert found.values["bleu1"] == 100 and found.values["caption_empty"] == 50
    assert found.facts["bleu1"]["left_out"] == 1
    nothing = RSRAGCaptions().measure(said[:1], FACTS)
    assert nothing.values == {"caption_empty": 100.0}
    with pytest.raises(UserError, match=r"evaluation=captions evaluation\.protocol=coco"):
        RSRAGCaptions(protocol="coco")


def test_classes_and_what_is_off_the_list():
    pairs = [("Park", " park "), ("Zoo", "zoo"), ("Beach", "a beach"), ("Beach", "")]
    said = [PredictionRecord(i, answer=a, prediction=p) for i, (a, p) in enumerate(pairs)]
    found = ClassAnswers(bootstrap=20).measure(said, FACTS)
    assert found.values["class_match"] == 50
    assert found.values["class_match_listed"] == pytest.approx(100 / 3)
    assert found.values["class_match_mean"] == pytest.approx(200 / 3)
    assert found.values["class_label_off_list"] == 25 and found.values["class_empty"] == 25
    assert found.facts["class_answer_off_list"]["answers"] == {"": 1, "a beach": 1, "zoo": 1}
    assert found.facts["class_label_off_list"]["labels"] == {"zoo": 1}
    assert found.facts["class_match"]["chance"] == 50
    assert found.facts["class_match_mean"]["low"] <= found.values["class_match_mean"]


class Colours(HashEncoder):
    """Pictures are known by their strongest channel."""

    def encode_images(self, images):
        if hasattr(images[0], "mean"):
            images = [COLOURS[int(i.float().mean((1, 2)).argmax())] for i in images]
            return self.encode_texts(images)
        return super().encode_images(images)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A model inside, a base, and questions about red, blue and a picture that it lacks."""
    torch.manual_seed(0)
    model = build("llava_tiny").eval()
    records = [
        KnowledgeRecord(c, name=f"{c} hall", image=f"{c}.png", texts=[f"built in 19{i}0"])
        for i, c in enumerate(COLOURS)
    ]
    base = KnowledgeBase.build(records, Colours(), tmp_path_factory.mktemp("eval") / "kb")
    samples = [
        Sample(
            [Image.new("RGB", (40, 40), colour)],
            turns=[Turn("user", "when?", (0,), kind="vqa"), Turn("assistant", year, kind="vqa")],
            meta={"id": name, "image": f"{name}.png"},
        )
        for name, colour, year in (
            ("red", "red", "1900"),
            ("blue", "blue", "1920"),
            ("x", "lime", "1999"),
        )
    ]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model, base, [view[(0, i)] for i in range(3)]


@pytest.mark.parametrize(("context", "recall"), [("retrieved", 100), ("right", 100), ("none", 0)])
def test_without_with_and_with_the_right_record(asked, monkeypatch, context, recall):
    model, base, items = asked
    prompts = []

    def generate(batch, **options):
        prompts.extend(batch.instructions)
        return [Answer("built in 1900 [1]") for _ in batch.ids]

    monkeypatch.setattr(model, "generate", generate)
    rag = RSRAG(model, base, alpha=1.0, k=2, task="vqa", context=context).eval()
    evaluation = RSRAGVQA()
    records = evaluation.predict(rag, rag.collate(training=False)(items))
    records = [record_of(one.row(), "a line") for one in records]  # as a file gives them
    found = evaluation.measure(records, FACTS)
    assert found.values["context_recall"] == recall
    assert found.values["context_known"] == pytest.approx(200 / 3)
    told = [one.knowledge["sources"] for one in records]
    assert [one.knowledge["own"] for one in records] == [["red"], ["blue"], []]
    if context == "none":
        assert not any("fact" in text for text in prompts) and told == [[], [], []]
    else:
        assert {source["record"] for source in told[1]} == {"blue"}
        assert [source["cited"] for source in told[0]] == [True, False]
        assert bool(told[2]) == (context == "retrieved"), "no record is right for the third"
    assert with_context(found, []) is found


def test_a_base_is_part_of_what_predictions_belong_to():
    config = {"model": {"lm": 1}, "knowledge": {"path": "kb", "k": 3}}
    assert fingerprint(config, None) != fingerprint({**config, "knowledge": {"path": None}}, None)
    assert fingerprint({"model": {"lm": 1}}, None) == fingerprint(
        {**config, "knowledge": {"path": None}}, None
    )
