"""Questions, boxes and names through eval.py's function on the generated world."""

import json
from types import SimpleNamespace

import pytest
import torch

from rsvlm.app import run
from rsvlm.cli.metrics import main as metrics
from rsvlm.data.geometry import identity
from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import codec
from rsvlm.errors import UserError
from rsvlm.evaluation.grounding import GroundingEvaluation
from rsvlm.evaluation.question_answering import AllBut, question_ids
from rsvlm.evaluation.vqa import VQAEvaluation, type_of
from rsvlm.metrics.captions.records import read_rows
from rsvlm.metrics.judge_scores import Scores
from rsvlm.models.skyeyegpt.model import SkyEyeGPT
from rsvlm.synthetic.export import FORMATS, export

TINY = [
    "model=skyeyegpt_tiny",
    "task=captioner",
    "data.eval_batch_size=3",
    "data.workers=0",
    "trainer=cpu",
    "logger=none",
    "model.generation.max_new_tokens=4",
]
WORLD = ["data=scenes", "data.dataset.n=5", "data.dataset.size=64"]


@pytest.fixture
def evaluate(compose, tmp_path):
    """Runs an evaluation; gives its values, its lines of predictions and its metrics.json."""

    def go(*words):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        drawn = WORLD if not any(word.startswith("data=") for word in words) else []
        values = run.evaluate(compose("eval", [*TINY, *drawn, *words]), out)
        lines = [line for file in out.rglob("predictions.jsonl") for line in read_rows(file)]
        results = json.loads((out / "metrics.json").read_text())["results"]
        return values, lines, results, out

    return go


def told_by(monkeypatch, say, boxes=None):
    """Puts `say(batch, row) -> text` in the place of what the model writes.

    Its boxes are read from the text, or come from `boxes(batch, row)`.
    """

    def generate(self, batch, features=None, **options):
        answers = [Answer(say(batch, row)) for row in range(len(batch))]
        for row, (answer, seen) in enumerate(zip(answers, batch.geometry, strict=True)):
            read = [found.box for found in self.codec.parse(answer.text, seen[0]).boxes]
            answer.boxes = read if boxes is None else boxes(batch, row)
        return answers

    monkeypatch.setattr(SkyEyeGPT, "generate", generate)


def test_questions_are_scored_by_type_and_shown(evaluate, monkeypatch):
    def say(batch, row):
        return batch.answers[row].upper() if batch.kinds[row] != "count" else "a lot"

    told_by(monkeypatch, say)
    values, lines, results, out = evaluate("evaluation=vqa", "+data.dataset.parts=[turns,captions]")
    assert values["test/scenes/exact/acc_presence"] == 100
    assert values["test/scenes/exact/acc_count"] == 0
    assert 0 < values["test/scenes/exact/oa"] < 100
    # A caption and a description are no short answers.
    assert {line["type"] for line in lines} >= {"presence", "count", "scene"}
    assert not {line["type"] for line in lines} & {"caption", "description", None}
    row = next(r for r in results if r["name"].endswith("/oa"))
    assert row["count"] == len(lines) == sum(row["types"].values())
    assert 0 < row["chance"] < 100
    assert (out / "pictures" / "questions.png").is_file()
    # The file of predictions is what the command line scores, with the same result.
    metrics(["vqa", str(out / "predictions.jsonl"), "--out", str(out / "again.json")])
    again = json.loads((out / "again.json").read_text())["results"]
    found = {r["name"].split("/")[-1]: r["value"] for r in again}
    assert found["oa"] == pytest.approx(values["test/scenes/exact/oa"])


def test_boxes_are_scored_in_pixels_of_the_stored_image(evaluate, monkeypatch):
    def say(batch, row):
        return "nowhere" if row == 0 else batch.answers[row]

    told_by(monkeypatch, say)
    words = ("evaluation=grounding", "+data.dataset.parts=[references]", "+data.dataset.seed=3")
    values, lines, results, out = evaluate(*words)
    # Expressions that mean several objects are kept, and not measured here.
    lines = [line for line in lines if len(line["true_boxes"]) == 1]
    unread = sum("boxes" not in line for line in lines)
    assert 0 < unread < len(lines)
    share = 100 * unread / len(lines)
    assert values["test/scenes/rsvg/box_unparsable"] == pytest.approx(share)
    # Hundredths of 64 px are finer than a pixel, so a true answer's box is nearly the true one.
    right = [(line["boxes"][0], line["true_boxes"][0]) for line in lines if "boxes" in line]
    assert all(abs(a - b) <= 0.65 for pair in right for a, b in zip(*pair, strict=True))
    row = next(r for r in results if r["name"].endswith("/acc50"))
    assert row["count"] == len(lines) and "left_out" in row and "chance" in row
    assert (out / "pictures" / "boxes.png").is_file()
    metrics(["grounding", str(out / "predictions.jsonl"), "--out", str(out / "again.json")])
    again = json.loads((out / "again.json").read_text())["results"]
    found = {r["name"].split("/")[-1]: r["value"] for r in again}
    assert found["box_miou"] == pytest.approx(values["test/scenes/rsvg/box_miou"])


def test_all_boxes_of_a_class_are_paired_with_the_true_ones(evaluate, monkeypatch):
    def boxes(batch, row):
        # One box too many for the first question of a batch, none for the second.
        true = [target.box for target in batch.targets[row]]
        return [[*true, (0, 0, 5, 5)], [], true][min(row, 2)]

    told_by(monkeypatch, lambda batch, row: batch.answers[row], boxes)
    # The data set has objects and no questions: they are made.
    words = ("evaluation=detection", "+data.dataset.parts=[instances]", "data.dataset.n=3")
    values, lines, _, out = evaluate(*words)
    assert {line["question"].split()[0] for line in lines} == {"[detection]"}
    assert any(len(line["true_boxes"]) > 1 for line in lines)
    said = {word.split("/")[-1]: value for word, value in values.items()}
    true = [len(line["true_boxes"]) for line in lines]
    found = sum(true) - true[1]
    assert said["det_unparsable"] == pytest.approx(100 / len(lines))
    assert said["det_precision"] == pytest.approx(100 * found / (found + 1))
    assert said["det_recall"] == pytest.approx(100 * found / sum(true))
    assert said["det_count"] == pytest.approx(100 * (len(lines) - 2) / len(lines))
    mean = len(lines) - 1 - 1 / (true[0] + 1)
    assert said["det_miou"] == pytest.approx(100 * mean / len(lines))
    assert (out / "pictures" / "boxes.png").is_file()


def test_what_is_in_a_box_is_named_and_described(evaluate, monkeypatch):
    def say(batch, row):
        return f"it is the {batch.targets[row][0].category}." if row else "a dragon"

    told_by(monkeypatch, say)
    base = ("evaluation=identify", "+data.dataset.parts=[instances]", "data.dataset.n=2")
    values, lines, results, out = evaluate(*base)
    assert values["test/scenes/same/named"] == 0 and (out / "pictures" / "names.png").is_file()
    assert all(len(line["true_boxes"]) == 1 and line["class"] for line in lines)
    assert all(line["question"].startswith("[identify] what object") for line in lines)
    assert next(r for r in results if r["name"].endswith("/named"))["chance"] > 0
    values, *_ = evaluate(*base, "evaluation.protocol=within")
    share = 100 * (len(lines) - 1) / len(lines)  # both images are in one batch
    assert values["test/scenes/within/named"] == pytest.approx(share)
    words = ("evaluation=region_captions", "evaluation.metrics=[bleu1,cider]")
    values, lines, _, out = evaluate(*words, *base[1:])
    assert 0 < values["test/scenes/coco_regions/bleu1"] < 100
    assert (out / "pictures" / "regions.png").is_file() and lines[0]["references"]


def test_detailed_descriptions_are_scored(evaluate, monkeypatch):
    told_by(monkeypatch, lambda batch, row: batch.answers[row])
    words = ("evaluation=detailed_captions", "evaluation.metrics=[bleu4]", "data.dataset.n=2")
    values, lines, _, out = evaluate(*words, "+data.dataset.parts=[turns]")
    assert values == {
        "test/scenes/coco_details/bleu4": pytest.approx(100),
        "test/scenes/coco_details/caption_empty": 0,
    }
    assert len(lines) == 2 and (out / "pictures" / "details.png").is_file()


def lenient(question, answer, truth):
    """A judge of the user's."""
    assert question and truth
    return 0.5


def test_rsieval_is_described_and_judged(evaluate, monkeypatch, tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "RSIEval"
    export(FORMATS["rsieval"], root, {"train": 0, "val": 0, "test": 2}, size=48)

    def say(batch, row):
        return batch.answers[row] if row % 2 == 0 else "a dragon"

    told_by(monkeypatch, say)
    base = ("evaluation=rsieval", "data=rsieval", f"data.root={root}", "evaluation.metrics=[bleu1]")
    values, every, results, out = evaluate(*base)
    lines = [line for line in every if "values" in line]
    right = sum(line["prediction"] == line["answer"] for line in lines)
    assert 0 < right < len(lines)
    assert values["test/rsieval/equal/judged"] == pytest.approx(100 * right / len(lines))
    assert 0 < values["test/rsieval/coco/bleu1"] <= 100
    row = next(r for r in results if r["name"].endswith("/judged"))
    assert row["protocol"] == "equal" and sum(n for n, _ in row["types"].values()) == len(lines)
    pictures = out / "pictures" / "rsieval"
    assert (pictures / "questions.png").is_file() and (pictures / "captions.png").is_file()
    assert len(every) - len(lines) == 2
    # People grade from 0 to 10 in the file of answers, and the same answers get their grades.
    graded = out / "graded.jsonl"
    for line in lines:
        line["score"] = 10 if line["prediction"] == "a dragon" else 3
    graded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    scores = "+evaluation.judge._target_=rsvlm.metrics.judge_scores.Scores"
    more = (*base, "data.splits.test=[vqa]", scores, f"+evaluation.judge.path={graded}")
    values, *_ = evaluate(*more, "+evaluation.judge.most=10")
    wanted = 100 * (len(lines) - right) / len(lines) + 30 * right / len(lines)
    assert values["test/rsieval/scores/judged"] == pytest.approx(wanted)
    told_by(monkeypatch, lambda batch, row: "something else")
    with pytest.raises(UserError, match=r"no verdict on 'something else'.*one checkpoint's"):
        evaluate(*more, "+evaluation.judge.most=10")
    own = (f"+evaluation.judge._target_={__name__}.lenient", "+evaluation.judge._partial_=true")
    values, *_ = evaluate(*base, "data.splits.test=[vqa]", *own)
    assert values["test/rsieval/callable/judged"] == 50


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "q", "answer": "a", "score": 1}, "needs the texts question, prediction"),
        ({"question": "q", "answer": "a", "prediction": "p", "score": None}, "score=None is no nu"),
        ({"question": "q", "answer": "a", "prediction": "p", "score": 7}, "score=7 is not from 0"),
    ],
)
def test_verdicts_that_cannot_be_read(line, message, tmp_path):
    (tmp_path / "scores.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=message):
        Scores(tmp_path / "scores.jsonl")


def test_a_data_set_without_such_questions_says_so(evaluate):
    with pytest.raises(UserError, match=r"scenes has no question of the kind refer.*references"):
        evaluate("evaluation=grounding", "+data.dataset.parts=[turns]")


def test_a_model_without_boxes_says_so():
    class Blind:
        codec = None

        def generate(self, batch):
            return []

    with pytest.raises(UserError, match=r"a Blind gives no boxes.*skyeyegpt"):
        GroundingEvaluation().start(Blind(), None, torch.device("cpu"))
    with pytest.raises(UserError, match=r"evaluation\.protocol='rvsg'.*rsvg"):
        GroundingEvaluation(protocol="rvsg")
    with pytest.raises(UserError, match="protocol 'exactly' is unknown"):
        VQAEvaluation(protocol="exactly")


def test_names_of_questions_and_types():
    class Batch:
        index = torch.tensor([4, 5, 5, 7])

    assert question_ids(Batch) == [4, "5#0", "5#1", 7]
    assert [type_of(k) for k in (None, "vqa", "yes/no", "Simple_Counting")] == [
        None,
        None,
        "yes_no",
        "simple_counting",
    ]
    assert "count" in AllBut(frozenset({"refer"})) and "refer" not in AllBut(frozenset({"refer"}))


def test_turned_boxes_count_as_the_protocol_says():
    class Model:
        codec = codec("geochat0_100_theta")

        def generate(self, batch, **options):
            return [Answer("it is there", boxes=[(30, 40, 70, 60)], angles=[45.0])]

    batch = SimpleNamespace(
        index=torch.tensor([0]),
        ids=["a"],
        instructions=["where?"],
        answers=["{<30><40><70><60>|<0>}"],
        geometry=[(identity(100, 100),)],
        targets=[[]],
    )
    values = {}
    for protocol in ("rsvg", "oriented"):
        evaluation = GroundingEvaluation(protocol=protocol)
        evaluation.start(Model(), SimpleNamespace(name="drawn"), torch.device("cpu"))
        evaluation.update(Model(), batch)
        values[protocol] = float(evaluation.compute()["box_miou"])
    # Upright, 40 x 20 turned by 45 degrees is a square of side 60 / sqrt(2) around the true box.
    assert values["rsvg"] == pytest.approx(100 * 800 / 1800)
    assert values["oriented"] > values["rsvg"] + 1
