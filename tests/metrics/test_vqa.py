"""Answers to questions: normalisation by name, RSVQA's bins, subsets, RSIVQA's types."""

import math

import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.names import METRICS, PROTOCOLS, metric_name
from rsvlm.metrics.vqa import TYPES, VQA
from rsvlm.metrics.vqa.normalise import (
    NORMALISE,
    bin_of,
    evalai,
    high_resolution,
    is_number,
    low_resolution,
    right,
)


def values(metric):
    found = {word: float(value) for word, value in metric.compute().items()}
    for word in found:
        assert metric_name("test", "rsvqa_lr", metric.protocol, word)
        assert metric.facts(word)["unit"] == METRICS[word].unit
    return found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"),
        (" The  Airport\n", "airport"),
        ("two", "2"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("shed've", "she'd've"),
        ("shed", "shed"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("sea/lake", "sea lake"),
        ("sea / lake", "sea lake"),
        ("baseball-field", "baseball field"),
        ("a", ""),
        ("it's", "it 's"),
        ("", ""),
    ],
)
def test_evalai_normalisation(answer, expected):
    assert evalai(answer) == expected
    assert evalai(evalai(answer)) in (expected, "it 's")


def test_number_bins_at_their_edges():
    edges = {0: "0", 1: "between 0 and 10", 10: "between 0 and 10", 11: "between 10 and 100"}
    edges |= {100: "between 10 and 100", 101: "between 100 and 1000", 1000: "between 100 and 1000"}
    edges |= {1001: "more than 1000"}
    for number, expected in edges.items():
        assert bin_of(number) == low_resolution(str(number)) == expected
        area = bin_of(number, "m2")
        assert high_resolution(f"{number}m2") == high_resolution(f"{number} m²") == area
        assert low_resolution(expected) == expected and high_resolution(area) == area
    assert bin_of(7, "m2") == "between 0m2 and 10m2" and bin_of(0, "m2") == "0m2"
    assert high_resolution("37") == "37"  # HR's counts are classes of their own
    assert len({bin_of(n) for n in (0, 5, 50, 500, 5000)}) == 5


QUESTIONS = [
    ("12", "37", "count"),  # the same bin
    ("Yes", "yes", "presence"),
    ("no", "yes", "presence"),
    ("rural", "urban", "rural_urban"),
    ("no", "no", "comp"),
]


def test_rsvqa_lr_by_hand():
    found = {}
    for protocol in ("exact", "published", "lhrs", "vhm"):
        metric = VQA("rsvqa_lr", protocol)
        answers, truths, types = zip(*QUESTIONS, strict=True)
        metric.update(answers, truths, types)
        found[protocol] = values(metric)
        assert metric.facts()["left_out"] == (protocol in ("lhrs", "vhm"))
    assert found["published"] == {
        "oa": pytest.approx(60),
        "aa": pytest.approx((0 + 50 + 100 + 100) / 4),
        "acc_rural_urban": 0,
        "acc_presence": 50,
        "acc_count": 100,
        "acc_comp": 100,
    }
    assert found["exact"]["acc_count"] == 0 and found["exact"]["oa"] == pytest.approx(40)
    for subset in ("lhrs", "vhm"):
        assert "acc_count" not in found[subset]
        assert found[subset]["oa"] == pytest.approx(50)
        assert found[subset]["aa"] == pytest.approx(50)


@pytest.mark.parametrize("data", ["rsvqa_hr", "rsvqa_hr_phili"])
def test_both_high_resolution_sets(data):
    metric = VQA(data, "published")
    metric.update(["54m2", "3"], ["70m2", "4"], ["area", "count"])
    assert values(metric) == {"oa": 50, "aa": 50, "acc_area": 100, "acc_count": 0}
    only = VQA(data, "lhrs")
    only.update(["54m2", "3"], ["70m2", "4"], ["area", "count"])
    with pytest.raises(UserError, match="all 2 questions are of types"):
        only.compute()


def test_rsivqa_types_follow_from_the_true_answer():
    metric = VQA("rsivqa")
    metric.update(["yes", "3", "three", "beach"], ["yes", "3", "four", "river"])
    found = values(metric)
    assert found == {
        "oa": 50,
        "aa": pytest.approx((100 + 50 + 0) / 3),
        "acc_yes_no": 100,
        "acc_number": 50,
        "acc_other": 0,
    }
    assert is_number("Three") and is_number("12") and not is_number("threes")


def test_rsivqa_types_on_the_real_questions(real_data):
    """captioner-moe-rag.md 4.5 counts the whole set; 106,798 of its 111,693 lines are here."""
    metric = VQA("rsivqa")
    counts = {}
    for file in sorted((real_data / "vqa_text" / "rsivqa").rglob("*.txt")):
        for line in file.read_text("utf-8").splitlines():
            truth = line.rpartition("?")[2]
            if truth.strip():
                kind = metric._type(None, truth, "")
                counts[kind] = counts.get(kind, 0) + 1
    assert sum(counts.values()) > 100_000
    assert min(counts.values()) > 10_000 and set(counts) == set(TYPES["rsivqa"])


@pytest.mark.parametrize("protocol", list(PROTOCOLS["vqa"]))
def test_a_part_of_the_right_answer_is_wrong(protocol):
    """LHRS-Bot's script takes '' and 'no' for 'none of them'."""
    metric = VQA("rsvqa_lr", protocol)
    metric.update(["", " ", "no", "e"], ["yes", "no", "none of them", "yes"], ["presence"] * 4)
    assert values(metric)["oa"] == 0
    assert metric.facts()["empty"] == 2
    assert set(NORMALISE) == set(PROTOCOLS["vqa"])


def test_a_truth_of_which_nothing_is_left_is_compared_as_it_is():
    assert right("The", "the", evalai) and not right("a", "the", evalai)
    assert not right("", "the", evalai)


def test_any_set_may_do_without_types():
    metric = VQA()
    metric.update(["a", "b"], ["a", "c"])
    assert values(metric) == {"oa": 50}
    typed = VQA(protocol="evalai")
    typed.update(["a boat", "b"], ["boat", "c"], ["what", "presence"])
    assert values(typed) == {"oa": 50, "aa": 50, "acc_presence": 0}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input():
    metric = VQA("rsvqa_lr")
    for bad in (None, math.nan, 3, ["yes"]):
        with pytest.raises(UserError, match=r"question 0: the answer is .* not a string"):
            VQA("rsvqa_lr").update([bad], ["yes"], ["comp"])
        with pytest.raises(UserError, match=r"question 0, truth"):
            VQA("rsvqa_lr").update(["yes"], [bad], ["comp"])
    with pytest.raises(UserError, match="the true answer is empty"):
        metric.update(["yes"], [" "], ["comp"])
    with pytest.raises(UserError, match=r"type 'compare' .* Did you mean comp"):
        metric.update(["yes"], ["yes"], ["compare"])
    with pytest.raises(UserError, match="type None is none of rsvqa_lr's"):
        metric.update(["yes"], ["yes"])
    with pytest.raises(UserError, match="1 answers, 2 truths and 1 types"):
        metric.update(["yes"], ["yes", "no"], ["comp"])
    with pytest.raises(UserError, match="nothing was given"):
        VQA().compute()
    with pytest.raises(UserError, match="Did you mean evalai"):
        VQA(protocol="eval_ai")
    with pytest.raises(UserError, match="Did you mean rsvqa_lr"):
        VQA("rsvqa_l")
    with pytest.raises(UserError, match="is one for RSVQA"):
        VQA("rsivqa", "lhrs")
