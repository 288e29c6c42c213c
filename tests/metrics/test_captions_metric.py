"""`Captions` over batches and processes, and what it does with bad input."""

import math
import random

import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.captions import Captions, score
from rsvlm.metrics.names import METRICS, metric_name

METRICS_HERE = ("bleu1", "bleu4", "rouge_l", "cider")


def world(images=23, seed=0):
    """Captions of made-up scenes; some repeat, one is empty."""
    draw = random.Random(seed)
    things = ["red roofs", "a road", "two ships", "trees", "plot b.", "The court", "don't know"]

    def sentence():
        return " near ".join(draw.choice(things) for _ in range(draw.randint(1, 4))) + " ."

    predictions = [sentence() for _ in range(images)]
    predictions[3] = ""
    references = [[sentence() for _ in range(draw.randint(1, 5))] for _ in range(images)]
    return predictions, references


def filled(ids, *, protocol="coco", size=5, metrics=METRICS_HERE):
    predictions, references = world()
    metric = Captions(protocol, metrics=metrics)
    for first in range(0, len(ids), size):
        batch = ids[first : first + size]
        metric.update([predictions[i] for i in batch], [references[i] for i in batch], batch)
    return metric


def values(metric):
    return {word: float(value) for word, value in metric.compute().items()}


def test_batches_in_any_order_with_copies_give_the_values_of_the_whole():
    predictions, references = world()
    whole = score("coco", predictions, references, metrics=METRICS_HERE)
    ids = [*range(23), 4, 4, 22]  # samplers pad
    random.Random(1).shuffle(ids)
    metric = filled(ids)
    found = values(metric)
    assert list(found) == list(METRICS_HERE)
    # Sums in the same order: equal to the last bit but for the factor 100.
    assert found == pytest.approx({w: 100 * v for w, v in whole.corpus.items()}, rel=1e-14)
    assert metric.ids == list(range(23))
    for word, each in metric.per_image.items():
        assert each.tolist() == pytest.approx([100 * v for v in whole.per_image[word]], rel=1e-12)
    facts = metric.facts()
    assert (facts["count"], facts["empty"], facts["unit"]) == (23, 1, "%")
    for word in found:
        assert metric_name("test", "rsicd", metric.protocol, word)
        assert METRICS[word].unit == "%"


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_reset_and_use_again():
    metric = filled(list(range(23)))
    first = values(metric)
    metric.reset()
    predictions, references = world()
    metric.update(predictions, references)  # without ids: counted from 0 again
    assert values(metric) == first
    with pytest.raises(UserError, match="no image with a caption"):
        metric.reset()
        metric.compute()


def test_facts_tell_sets_of_references_apart():
    one, other = filled(list(range(23))), filled(list(range(22)))
    again = filled(list(range(22, -1, -1)), protocol="rs_rag")
    for metric in (one, other, again):
        metric.compute()
    assert one.facts()["references"] == again.facts()["references"] != other.facts()["references"]


def test_what_cannot_run_is_named(monkeypatch):
    monkeypatch.setattr("rsvlm.metrics.captions.java._package", lambda name: None)
    monkeypatch.setenv("PATH", "")
    metric = filled([0, 1], metrics=None)
    found = metric.compute()
    assert "cider" in found and "meteor" not in found
    assert "pip install 'rsvlm[meteor]'" in metric.skipped["meteor"]
    with pytest.raises(UserError, match="METEOR"):
        filled([0, 1], metrics=("bleu1", "meteor")).compute()


def test_scores_are_there_only_after_compute():
    for name in ("per_image", "ids", "skipped"):
        with pytest.raises(RuntimeError, match="after compute"):
            getattr(filled([0]), name)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ((["a"], [["a"], ["b"]], [0]), "1 predictions, 2 lists of references and 1 ids"),
        ((["a"], [["a"]], [0, 1]), "1 lists of references and 2 ids"),
        (([None], [["a"]], [7]), r'image 7: the prediction is None .* Write "" where'),
        (([math.nan], [["a"]], ["x"]), r'image \'x\': the prediction is nan .* Write ""'),
        (([3], [["a"]], [7]), r"the prediction is 3 \(int\), not a string"),
        (([[1, 2]], [["a"]], [7]), r"\(list\), not a string"),
        ((["a"], [["a", None]], [7]), "image 7: reference 1 is None"),
        ((["a"], [[]], [7]), "image 7 has no references"),
        ((["a"], ["a roof"], [7]), "must be a list of strings, not one string"),
        ((["a"], [["a"]], [1.5]), r"image id 1\.5 must be a string or an integer"),
    ],
)
def test_bad_updates_are_refused(update, message):
    with pytest.raises(UserError, match=message):
        Captions().update(*update)


def test_two_answers_for_one_image_are_refused():
    metric = Captions(metrics=["bleu1"])
    metric.update(["a", "b"], [["a"], ["a"]], [5, 5])
    with pytest.raises(UserError, match="image 5 was given twice, with 'a' and 'b'"):
        metric.compute()


def test_options_are_checked_before_anything_is_scored():
    with pytest.raises(UserError, match="Did you mean rs_rag"):
        Captions("rsrag")
    with pytest.raises(UserError, match="Did you mean cider"):
        Captions("coco", metrics=["cidre"])
    with pytest.raises(UserError, match="takes no vocabulary"):
        Captions("coco", vocabulary={"<unk>": 0})


def test_token_ids_take_numbers_or_words():
    words, numbers = (
        Captions("token_ids", metrics=["bleu2"]),
        Captions("token_ids", metrics=["bleu2"]),
    )
    words.update(["a red roof", "b"], [["a red barn"], ["b c"]])
    numbers.update([[4, 9, 6], [5]], [[[4, 9, 7]], [[5, 8]]])
    assert values(words) == values(numbers)
    assert numbers.facts()["settings"] == {}
    fixed = Captions("token_ids", metrics=["bleu1"], vocabulary={"<unk>": 0, "a": 1})
    with pytest.raises(UserError, match="not a string"):
        fixed.update([[1]], [["a"]])
    fixed.update(["a"], [["a"]])
    fixed.compute()
    assert fixed.facts()["settings"]["vocabulary"].startswith("2 words")


@pytest.mark.parametrize("id", ["a\nb", "ü", "\ud800", 2**62, -1])
def test_any_name_and_any_text_survives_the_gathering(id):
    metric = Captions(metrics=["rouge_l"])
    metric.update(["\x00 a\nb \ud800 北京"], [["\x00 a\nb \ud800 北京"]], [id])
    assert values(metric) == {"rouge_l": pytest.approx(100.0)}
    assert metric.ids == [id]
