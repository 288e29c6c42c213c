"""Change metrics: subsets, yes or no, counts, places, open questions, by hand and on LEVIR-CC."""

import json
import math

import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.captions import Captions
from rsvlm.metrics.change import (
    NO_CHANGE,
    ChangeCaptions,
    ChangeCounts,
    ChangeFlags,
    ChangeLocations,
    OpenQuestions,
)
from rsvlm.metrics.change.counts import published_counts, robust_counts
from rsvlm.metrics.change.flags import says_changed
from rsvlm.metrics.change.locations import CELLS, published_places, robust_places
from rsvlm.metrics.change.templates import plain, templates_of, unchanged
from rsvlm.metrics.names import METRICS, PROTOCOLS, metric_name

QUICK = ["bleu1", "rouge_l", "cider"]


def values(metric):
    found = {word: float(value) for word, value in metric.compute().items()}
    for word in found:
        assert metric_name("test", "levir_cc", metric.protocol, word)
        assert metric.facts(word)["unit"] == METRICS[word].unit
    return found


# Captions --------------------------------------------------------------------------------------


def test_one_sentence_for_all_of_levir_cc(real_data):
    """bitemporal.md 0.2: what a model that always says the same scores on the test split."""
    folder = real_data / "captions_text"
    pairs = json.loads((folder / "levir_cc_captions.json").read_text())
    references = [pair["sentences"] for pair in pairs if pair["split"] == "test"]
    words = ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"]
    metric = ChangeCaptions(
        "token_ids",
        metrics=words,
        vocabulary=json.loads((folder / "levir_mci_vocab.json").read_text()),
    )
    metric.update(["the scene is the same as before"] * len(references), references)
    found = values(metric)
    expected = (64.56, 56.62, 53.16, 51.49, 60.60, 101.93)
    assert [round(found[word], 2) for word in words] == list(expected)
    # The split's own numbers of changed and unchanged pairs, from the sentences alone.
    assert metric.facts("change_cider")["count"] == 964
    assert metric.facts("no_change_cider")["count"] == 965
    assert metric.facts("cider")["count"] == 1929
    assert found["no_change_bleu4"] == pytest.approx(100)
    flags = ChangeFlags("levir_cc")
    flags.update(
        ["the scene is the same as before"] * 1929,
        [not unchanged(r, templates_of("levir_cc")) for r in references],
    )
    told = values(flags)
    assert told["no_change_recall"] == 100 and told["change_recall"] == told["change_f1"] == 0
    assert told["change_accuracy"] == pytest.approx(100 * 965 / 1929)


PAIRS = [
    ("a house is built", ["a house appears", "a house is built"], 1),
    ("there is no difference", ["there is no difference", "the scene is the same as before"], 0),
    ("a road is built", ["a road appears near the wood", "a new road is built"], 1),
]


def test_subsets_by_flag_and_by_sentence_agree_and_have_statistics_of_their_own():
    by_flag, by_sentence = ChangeCaptions(metrics=QUICK), ChangeCaptions(metrics=QUICK)
    guesses, references, flags = zip(*PAIRS, strict=True)
    by_flag.update(guesses, references, flags=flags)
    by_sentence.update(guesses, references)
    found = values(by_flag)
    assert found == values(by_sentence)
    for word in found:
        assert by_flag.facts(word) == by_sentence.facts(word)
    alone = Captions("token_ids", metrics=QUICK)
    rows = [pair for pair in PAIRS if pair[2]]
    alone.update([row[0] for row in rows], [row[1] for row in rows])
    for word, value in alone.compute().items():
        assert found[f"change_{word}"] == pytest.approx(float(value), abs=1e-12)
    assert (
        found["no_change_bleu1"] == pytest.approx(100) and found["no_change_cider"] == 0
    )  # one image: no idf
    assert by_flag.facts("change_bleu1")["references"] != by_flag.facts("bleu1")["references"]


def test_flags_overrule_the_sentences():
    metric = ChangeCaptions(metrics=["bleu1"])
    metric.update(["x", "y"], [["there is no difference"]] * 2, flags=[True, None])
    metric.compute()
    assert metric.facts("change_bleu1")["count"] == metric.facts("no_change_bleu1")["count"] == 1


def test_a_subset_without_pairs_is_named():
    metric = ChangeCaptions(metrics=["bleu1"])
    metric.update(["a"], [["a house"]], flags=[1])
    assert set(values(metric)) == {"bleu1", "change_bleu1"}
    assert "no pairs without a change" in metric.skipped["no_change_bleu1"]


def test_the_two_data_sets_have_lists_of_their_own():
    levir, second = (templates_of(name) for name in ("levir_cc", "second_cc"))
    assert len(levir) == len(second) == 5 and len(levir & second) == 3
    assert plain("No change has occurred .") in levir and plain("no change is occurred.") in second
    # The second reference counts, as published; with one there is only that.
    assert not unchanged(["there is no difference", "a house"], levir)
    assert unchanged(["there is no difference"], levir)
    assert set(NO_CHANGE) <= set(PROTOCOLS["change_flags"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [([1, 0], "2 flags for 1 pairs"), ([2], "flag 2: 1 is a changed"), (["no"], "flag 'no'")],
)
def test_bad_flags_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        ChangeCaptions().update(["a"], [["a"]], flags=flags)


def test_unknown_lists_are_refused():
    with pytest.raises(UserError, match="Did you mean levir_cc"):
        ChangeCaptions(data="levir")
    with pytest.raises(UserError, match="at least one sentence"):
        ChangeCaptions(templates=[])


def test_open_questions_keep_the_reference_as_written():
    vocabulary = {"<unk>": 0, "two": 1, "houses": 2, "Houses": 3}
    asked = OpenQuestions(metrics=["bleu1"], vocabulary=vocabulary)
    asked.update(["houses .", "two"], ["houses .", ["two."]], ids=["a", "b"])
    # "houses ." against "houses ." : the answer loses its full stop, the reference does not.
    # "two" against "two.", an unknown word. Hits 1 of 2, lengths 2 against 2 + 1.
    assert values(asked)["bleu1"] == pytest.approx(100 * 0.5 * math.exp(1 - 3 / 2), rel=1e-6)
    with pytest.raises(UserError, match="has 2 references"):
        asked.update(["a"], [["a", "b"]], ids=["c"])
    assert "1,099" in OpenQuestions.__doc__


# Yes or no -------------------------------------------------------------------------------------


def test_classification_by_hand():
    metric = ChangeFlags("levir_cc")
    answers = ["a house", "a road", "there is no difference .", "No change has occurred.", ""]
    metric.update(answers, [1, 0, 1, 0, 1])
    found = values(metric)  # TP 2 (the empty caption is no sentence), FP 1, FN 1, TN 1
    assert metric.confusion.tolist() == [[1, 1], [1, 2]]
    assert found == {
        "change_accuracy": pytest.approx(60),
        "change_precision": pytest.approx(200 / 3),
        "change_recall": pytest.approx(200 / 3),
        "change_f1": pytest.approx(200 / 3),
        "change_f05": pytest.approx(200 / 3),
        "no_change_precision": pytest.approx(50),
        "no_change_recall": pytest.approx(50),
    }
    assert metric.facts()["empty"] == 1


def test_published_confusion_gives_the_published_row():
    """DeltaVLM's binary table, from its own counts: TP 882, FP 34, FN 82, TN 931."""
    metric = ChangeFlags("yes_no")
    answers = ["yes"] * 916 + ["no"] * 1013
    metric.update(answers, [1] * 882 + [0] * 34 + [1] * 82 + [0] * 931)
    found = values(metric)
    shown = [round(found[f"change_{w}"], 2) for w in ("accuracy", "precision", "recall", "f1")]
    assert shown == [93.99, 96.29, 91.49, 93.83]


def test_an_answer_without_yes_or_no_is_wrong_either_way():
    metric = ChangeFlags("yes_no")
    metric.update(["maybe", "", "Yes, a road", " no."], [1, 0, 1, 0])
    found = values(metric)
    assert metric.confusion.tolist() == [[1, 1], [1, 1]]
    assert found["change_accuracy"] == found["change_unparsable"] == 50
    assert says_changed("nothing") is None and says_changed("NO") is False


def test_two_lists_are_two_protocols():
    answer, flags = ["no change is occurred"], [0]
    found = {}
    for protocol in ("levir_cc", "second_cc"):
        metric = ChangeFlags(protocol)
        metric.update(answer, flags)
        found[protocol] = values(metric)["change_accuracy"]
    assert found == {"levir_cc": 0, "second_cc": 100}
    own = ChangeFlags("custom_templates", templates=["all is as it was"])
    own.update(["All is as it was."], [0])
    assert values(own)["change_accuracy"] == 100 and own.facts()["settings"]["templates"]
    for options in ({"protocol": "yes"}, {"protocol": "custom_templates"}, {"templates": ["a"]}):
        with pytest.raises(UserError, match=r"yes_no|custom_templates"):
            ChangeFlags(**options)


# Counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "published", "robust"),
    [
        ("2 new roads and 3 new buildings have appeared", (2, 3), (2, 3)),
        ("no new road and 1 new building", (0, 1), (0, 1)),
        ("there are no changes in roads or buildings", (0, 0), (0, 0)),
        ("No new roads or buildings", (0, 0), (0, 0)),
        ("now 2 new roads, 4 new buildings", (0, 4), (2, 4)),  # "no" is in "now"
        ("No roads has changed, and no buildings has changed.", None, (0, 0)),
        ("Roads: 3, buildings: 0", None, (3, 0)),
        ("roads: 3 and buildings: 2", None, (3, 2)),
        ("two roads and a building", None, (2, 1)),
        ("a new road appears", None, (1, 0)),
        ("12 buildings are new", None, (0, 12)),
        ("No change has occurred.", None, (0, 0)),
        ("a railroad", None, None),
        ("", None, None),
    ],
)
def test_both_readings_of_counts(answer, published, robust):
    assert published_counts(answer) == published
    assert robust_counts(answer) == robust


def test_count_errors_by_hand():
    metric = ChangeCounts("robust")
    metric.update(["3 roads", "no roads, 5 buildings", "?"], [(1, 0), (0, 1), (2, 2)])
    assert values(metric) == {
        "road_mae": pytest.approx(4 / 3),  # 2, 0, and 2 for the answer that says nothing
        "road_rmse": pytest.approx(math.sqrt(8 / 3)),
        "building_mae": pytest.approx(2.0),
        "building_rmse": pytest.approx(math.sqrt(20 / 3)),
        "count_unparsable": pytest.approx(100 / 3),
    }
    text = ChangeCounts("published")
    text.update(["1 new road and 1 new building"], ["no new road and 2 new buildings"])
    text.update(["1 new road and 1 new building"], [{"road": 1, "building": 1}])
    assert values(text)["building_mae"] == 0.5


@pytest.mark.parametrize("truth", ["a house", (1,), (1, -1), (1.5, 0), {"road": 1}, None])
def test_truths_without_numbers_are_refused(truth):
    with pytest.raises(UserError, match="is no count"):
        ChangeCounts().update(["1 new road"], [truth])


# Places ----------------------------------------------------------------------------------------

TOP, MID = frozenset({"top-left"}), frozenset({"top-left", "center-center"})
NONE = frozenset()


@pytest.mark.parametrize(
    ("answer", "published", "robust"),
    [
        ("Roads: ['top-left'] Buildings: []", (TOP, NONE), (TOP, NONE)),
        ("roads [] buildings ['top-left', 'center-center']", (NONE, MID), (NONE, MID)),
        ("roads: top left; buildings at the upper left and in the middle-centre", None, (TOP, MID)),
        ("roads [top-left] buildings []", None, (TOP, NONE)),
        ("roads ['here'] buildings []", None, (NONE, NONE)),
        ("No change has occurred.", None, (NONE, NONE)),
        ("I see trees", None, None),
        ("", None, None),
    ],
)
def test_both_readings_of_places(answer, published, robust):
    assert published_places(answer) == published
    assert robust_places(answer) == robust


def test_places_by_hand():
    answers = [
        "roads ['top-left', 'top-right'] buildings []",
        "roads [] buildings []",
        "nothing to say",
    ]
    truths = [{"road": ["top-left"], "building": []}, ([], []), ([], ["top-left"])]
    found = {}
    for empty in (0, 1):
        metric = ChangeLocations("published", empty=empty)
        metric.update(answers, truths)
        found[empty] = values(metric)
    zero = found[0]
    assert zero["road_loc_precision"] == 50 and zero["road_loc_recall"] == 100
    assert zero["road_loc_f1"] == pytest.approx(200 / 3)
    assert zero["road_loc_hamming"] == pytest.approx(100 / 27)
    assert zero["road_loc_subset_accuracy"] == pytest.approx(100 / 3)  # not the illegible one
    assert zero["road_loc_jaccard"] == pytest.approx(100 * (0.5 + 0 + 0) / 3)
    assert found[1]["road_loc_jaccard"] == pytest.approx(100 * (0.5 + 1 + 0) / 3)
    assert zero["building_loc_recall"] == 0 and zero["loc_unparsable"] == pytest.approx(100 / 3)
    assert {k for k in zero if zero[k] != found[1][k]} == {
        "road_loc_jaccard",
        "building_loc_jaccard",
    }


def test_nine_right_empties_of_ten_are_a_tenth_or_all():
    """bitemporal.md 0.4: samples-Jaccard by scikit-learn, nine empty pairs told right."""
    for protocol, expected in (("published", 10), ("robust", 100)):
        metric = ChangeLocations(protocol)
        answers = ["roads [] buildings []"] * 9 + ["roads ['top-left'] buildings []"]
        metric.update(answers, [([], [])] * 9 + [(["top-left"], [])])
        found = values(metric)
        assert found["road_loc_jaccard"] == pytest.approx(expected)
        assert found["road_loc_subset_accuracy"] == 100
        assert metric.facts()["settings"] == {}
    other = ChangeLocations("published", empty=1)
    other.update(["roads [] buildings []"], ["No change has occurred."])
    assert values(other)["road_loc_jaccard"] == 100 and other.facts()["settings"] == {"empty": 1}


@pytest.mark.parametrize("truth", ["a house", [["left"], []], {"road": ["top-left"]}, None])
def test_truths_without_cells_are_refused(truth):
    with pytest.raises(UserError, match="names no cells"):
        ChangeLocations().update([""], [truth])
    assert len(set(CELLS)) == 9


# Bad input of all of them ----------------------------------------------------------------------

MAKE = {
    ChangeFlags: ("a house", 1),
    ChangeCounts: ("1 new road and no new building", (1, 0)),
    ChangeLocations: ("roads [] buildings []", ([], [])),
}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.__name__)
def test_bad_input(kind):
    answer, truth = MAKE[kind]
    for bad in (None, math.nan, 3, ["a"]):
        with pytest.raises(UserError, match=r"pair 7: the answer is .* not a string"):
            kind().update([bad], [truth], [7])
    with pytest.raises(UserError, match="1 answers and 2"):
        kind().update([answer], [truth, truth])
    with pytest.raises(UserError, match="2 ids for 1 pairs"):
        kind().update([answer], [truth], [0, 1])
    with pytest.raises(UserError, match="must be a string or an integer"):
        kind().update([answer], [truth], [0.5])
    with pytest.raises(UserError, match="nothing was given"):
        kind().compute()
    metric = kind()
    with pytest.raises(RuntimeError, match="after compute"):
        metric.facts()
    metric.update([answer, answer], [truth, truth], [0, 0])  # samplers pad
    metric.compute()
    assert metric.facts()["count"] == 1
    twice = kind()
    twice.update([answer, "other"], [truth, truth], [0, 0])
    with pytest.raises(UserError, match="item 0 was given twice"):
        twice.compute()
    with pytest.raises(UserError, match=r"Did you mean|Known"):
        kind("publishd")
