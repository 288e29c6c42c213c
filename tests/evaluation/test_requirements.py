"""What is known of a model before it is built."""

import pytest
from model_options import build

from rsvlm.app.bench.prepare import class_of
from rsvlm.config.instantiate import instantiate
from rsvlm.evaluation.requirements import unable

CASES = [
    ("clip_tiny", "zeroshot", None, ""),
    ("clip_tiny", "captions", None, "writes no answers"),
    ("clip_tiny", "retrieval", 2, "one image"),
    ("llava_tiny", "retrieval", None, "finds no images"),
    ("rscapret_tiny", "retrieval", None, ""),
    ("llava_tiny", "change_binary", 2, ""),
    ("llava_tiny", "segmentation", None, "draws no masks"),
    ("geopix_tiny", "segmentation", 1, ""),
    ("chg2cap_tiny", "captions", 1, "compares two dates"),
    ("chg2cap_tiny", "change_captions", 2, ""),
    ("chg2cap_tiny", "vqa", 2, "answers no questions"),
    ("chg2cap_tiny", "grounding", 2, "no boxes"),
    ("deltavlm_tiny", "change_captions_lm", 2, ""),
    ("api", "change_captions_lm", 2, ""),
    ("api", "zeroshot", 1, "no space"),
]


def test_a_model_tells_what_its_class_cannot(compose):
    model = build("blip2_tiny", device="meta")
    kind, asked = type(model), instantiate(compose("eval", ["evaluation=vqa"]).evaluation)
    assert not unable(kind, asked, 2) and "one image" in unable(model, asked, 2)
    assert not unable(model, asked, 1)


@pytest.mark.parametrize(("model", "evaluation", "pictures", "why"), CASES)
def test_a_class_tells(compose, model, evaluation, pictures, why):
    cfg = compose("eval", [f"model={model}", f"evaluation={evaluation}"])
    said = unable(class_of(cfg), instantiate(cfg.evaluation), pictures)
    assert (why in said) if why else not said
