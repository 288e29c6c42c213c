"""What is known of a model before it is built."""

import pytest
from model_options import build
from omegaconf import OmegaConf

from rsvlm.app.bench.prepare import class_of
from rsvlm.config.instantiate import instantiate
from rsvlm.evaluation.requirements import unable

CLASSES = {
    "CLIP": "rsvlm.encoders.clip.model.clip",
    "LLaVA": "rsvlm.models.llava.model.LLaVA",
    "RSCapRet": "rsvlm.models.rscapret.model.RSCapRet",
    "GeoPix": "rsvlm.models.geopix.model.GeoPix",
    "Chg2Cap": "rsvlm.models.change_captioning.chg2cap.Chg2Cap",
    "DeltaVLM": "rsvlm.models.deltavlm.model.DeltaVLM",
    "APIModel": "rsvlm.models.api.model.APIModel",
}
CASES = [
    ("CLIP", "zeroshot", None, ""),
    ("CLIP", "captions", None, "writes no answers"),
    ("CLIP", "retrieval", 2, "one image"),
    ("LLaVA", "retrieval", None, "finds no images"),
    ("RSCapRet", "retrieval", None, ""),
    ("LLaVA", "change_binary", 2, ""),
    ("LLaVA", "segmentation", None, "draws no masks"),
    ("GeoPix", "segmentation", 1, ""),
    ("Chg2Cap", "captions", 1, "compares two dates"),
    ("Chg2Cap", "change_captions", 2, ""),
    ("Chg2Cap", "vqa", 2, "answers no questions"),
    ("APIModel", "grounding", 1, ""),
    ("DeltaVLM", "change_captions_lm", 2, ""),
    ("APIModel", "change_captions_lm", 2, ""),
    ("APIModel", "zeroshot", 1, "no space"),
]


def evaluation(root, name):
    return instantiate(OmegaConf.load(root / "conf" / "evaluation" / f"{name}.yaml"))


@pytest.mark.parametrize(("model", "asked", "pictures", "why"), CASES)
def test_a_class_tells(root, model, asked, pictures, why):
    kind = class_of(OmegaConf.create({"model": {"_target_": CLASSES[model]}}))
    assert kind.__name__ == model
    said = unable(kind, evaluation(root, asked), pictures)
    assert (why in said) if why else not said


def test_a_model_tells_what_its_class_cannot(root):
    model = build("blip2_tiny", device="meta")
    kind, asked = type(model), evaluation(root, "vqa")
    assert not unable(kind, asked, 2) and "one image" in unable(model, asked, 2)
    assert not unable(model, asked, 1)
    boxes = evaluation(root, "grounding")
    assert not unable(kind, boxes, 1) and unable(model, boxes, 1) == "gives no boxes"
