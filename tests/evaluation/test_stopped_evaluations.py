"""An evaluation that is stopped anywhere and goes on, on other ranks, gives the same numbers."""

import json
import random
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from rsvlm.app.build import build_data, build_task
from rsvlm.data.prediction_files import parts_of, read_predictions
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError
from rsvlm.evaluation.records import Place, measure_place
from rsvlm.inference.build import build_model
from rsvlm.lit.recording import Recording
from rsvlm.synthetic.export import FORMATS, export

SCENES = ["data=scenes", "data.dataset.n=6", "data.dataset.size=32"]
CLIP = ["model=clip_tiny", *SCENES]
VLM = ["model=skyeyegpt_tiny", "task=captioner", *SCENES, "data.dataset.size=48"]
CHAT = ["model=deltavlm_tiny", "task=bitemporal", "model.vision.image_size=28"]
PIXELS = "+data.dataset.parts=[references,masks]"
QUICK = "evaluation.metrics=[bleu1,bleu4,rouge_l,cider]"
#: Option -> its words.
OPTIONS = {
    "retrieval": CLIP,
    "retrieval skyscript": [*CLIP, "evaluation.protocol=skyscript"],
    "zeroshot": CLIP,
    "binary": CLIP,
    "captions": [*VLM, QUICK],
    "vqa": [*VLM, "+data.dataset.parts=[turns,captions]"],
    "grounding": [*VLM, "+data.dataset.parts=[references]", "+data.dataset.seed=3"],
    "detection": [*VLM, "+data.dataset.parts=[instances]"],
    "identify": [*VLM, "+data.dataset.parts=[instances]"],
    "region_captions": [*VLM, "+data.dataset.parts=[instances]", QUICK],
    "detailed_captions": [*VLM, "+data.dataset.parts=[turns]", QUICK],
    "rsieval": ["model=skyeyegpt_tiny", "task=captioner", "data=rsieval", QUICK],
    "remotecount": ["model=clip_tiny", "data=remotecount"],
    "localisation": ["model=clip_tiny", "data=airslt"],
    "segmentation": ["model=lisa_tiny", "task=pixel", *SCENES, PIXELS],
    "change_captions_lm": [*CHAT, QUICK, "evaluation.data=levir_cc"],
    "change_binary": CHAT,
    "change_count": CHAT,
    "change_location": CHAT,
    "change_open": [*CHAT, QUICK],
    "change_dialogue": [*CHAT, QUICK],
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    sizes = {"train": 0, "val": 0, "test": 3}
    export(FORMATS["rsieval"], root / "rsieval", sizes, size=48)
    export(FORMATS["changechat"], root / "changechat", {**sizes, "train": 2}, size=28)
    (root / "counts").mkdir()
    rows = ["filepath,title"]
    for number, word in enumerate(("two", "one", "ten", "six", "two")):
        colour = (50 * number, 90, 200 - 15 * number)
        Image.new("RGB", (32, 32), colour).save(root / "counts" / f"{number}.png")
        rows.append(f"{number}.png,there are {word} ships.")
    (root / "counts" / "test.csv").write_text("\n".join(rows) + "\n")
    for name in ("annotations", "imgs"):
        (root / "airslt" / name).mkdir(parents=True)
    Image.effect_noise((800, 780), 90).convert("RGB").save(root / "airslt" / "imgs" / "0.jpg")
    region = [[100, 120], [420, 120], [420, 500], [100, 500]]
    said = ("a pond", "two fields", "a road")
    lines = [{"caption": s, "jpg_name": "0.jpg", "points": [region]} for s in said]
    (root / "airslt" / "annotations" / "anno.json").write_text(json.dumps(lines))
    return root


def half_right(model):
    """Answers that are true, empty or wrong by turns, told by the question alone."""

    def generate(batch, features=None, **options):
        answers = []
        for row, question in enumerate(batch.instructions):
            draw = random.Random(f"{question} {batch.ids[row]}").random()
            text = batch.answers[row] if draw < 0.5 else "" if draw < 0.6 else "Yes, a red 2 ."
            answer = Answer(text)
            if hasattr(batch, "masks") and len(batch.masks[row]) and draw < 0.9:
                answer.masks = list(batch.masks[row].roll(int(10 * draw) // 5, 1).numpy())
            if getattr(model, "codec", None) is not None and batch.geometry[row]:
                read = model.codec.parse(text, batch.geometry[row][0])
                answer.boxes = [found.box for found in read.boxes]
            answers.append(answer)
        return answers

    return generate


#: Model option -> a model of it; evaluations change none.
BUILT = {}


class Run:
    """The plumbing of an evaluation without a trainer."""

    def __init__(self, compose, words, out):
        cfg = compose("eval", [*words, "trainer=cpu", "logger=none", "data.workers=0"])
        self.cfg, self.out = cfg, out
        name = words[1] if words[1].startswith("model=") else words[2]
        if name not in BUILT:
            BUILT[name] = build_model(cfg, out, say=lambda *_: None)
        self.task = build_task(cfg, BUILT[name])
        self.model = self.task.model.eval()
        if hasattr(self.model, "generate"):
            self.model.generate = half_right(self.model)
        self.data = build_data(cfg, self.task)

    def place(self, name):
        return Place(self.out / name, self.out / f"{name}.jsonl", {"checkpoint": "none"})

    def ask(self, place, world=1, batch=3):
        """Asks about all that is missing, rank after rank."""
        self.data.eval_batch_size = batch
        done = place.held()
        done = frozenset(done.done) if done else frozenset()
        for rank in range(world):
            trainer = SimpleNamespace(
                is_global_zero=True,
                global_rank=rank,
                world_size=world,
                # What the first rank found before any of them appended.
                strategy=SimpleNamespace(broadcast=lambda told: [sorted(done), told[1]]),
                datamodule=self.data,
            )
            self.data.trainer = trainer
            recording = Recording(place)
            recording.setup(trainer)
            if len(done) == len(self.data.dataset("test")):
                return
            task = SimpleNamespace(
                evaluation=self.task.evaluation,
                model=self.model,
                trainer=trainer,
                sharded=False,
            )
            self.task.evaluation.stage = "test"
            self.task.evaluation.start(self.model, self.data.dataset("test"), torch.device("cpu"))
            recording.start(task)
            with torch.no_grad():
                for number, items in enumerate(self.data.test_dataloader()):
                    recording.update(task, items, number)
            recording.close(task)

    def measure(self, place):
        return measure_place(self.task.evaluation, place)


def words_of(option, sets):
    words = [f"evaluation={option.split()[0]}", *OPTIONS[option]]
    if option == "rsieval":
        words += [f"data.root={sets / 'rsieval'}", "data.splits.test=vqa"]
    if option == "remotecount":
        words.append(f"data.root={sets / 'counts'}")
    if option == "localisation":
        words.append(f"data.root={sets / 'airslt'}")
    if option.startswith("change_"):
        split = {
            "change_captions_lm": "test",
            "change_binary": "test_binary",
            "change_count": "test_count",
            "change_location": "test_loc",
            "change_open": "test_open",
            "change_dialogue": "test_dialog",
        }[option]
        words += [
            "data=changechat",
            f"data.root={sets / 'changechat'}",
            f"data.splits.test={split}",
        ]
    return words


#: Options that bring no record field or metric of their own, or build large things.
SLOW = {
    *("localisation", "segmentation", "retrieval skyscript", "region_captions"),
    *("detailed_captions", "change_open", "change_location", "change_count", "rsieval"),
}


@pytest.mark.parametrize(
    "option", [pytest.param(o, marks=[pytest.mark.slow] if o in SLOW else []) for o in OPTIONS]
)
def test_stopped_at_random_points_it_equals_the_uninterrupted_one(compose, sets, tmp_path, option):
    run = Run(compose, words_of(option, sets), tmp_path)
    whole = run.place("whole")
    run.ask(whole)
    wanted = run.measure(whole)
    assert wanted.rows
    draw = random.Random(option)
    (kept,) = parts_of(whole.parts)
    content = kept.read_bytes()
    for number in range(3):
        # A kill leaves what was written so far, to the byte; others go on from there.
        place = run.place(f"stopped{number}")
        place.parts.mkdir()
        cut = draw.randrange(1, len(content))
        (place.parts / "part-0.jsonl").write_bytes(content[:cut])
        run.ask(place, world=1 + number % 2, batch=4)
        found = run.measure(place)
        assert found.rows == wanted.rows, f"cut at byte {cut} of {len(content)}"
    # Records alone, read anew, give the same again.
    assert run.measure(whole).rows == wanted.rows
    assert json.dumps(wanted.rows)


def test_ranks_append_to_parts_of_their_own(compose, sets, tmp_path):
    run = Run(compose, words_of("zeroshot", sets), tmp_path)
    one, two = run.place("one"), run.place("two")
    run.ask(one)
    run.ask(two, world=2)
    assert [path.name for path in parts_of(two.parts)] == ["part-0.jsonl", "part-1.jsonl"]
    assert run.measure(two).rows == run.measure(one).rows
    held = read_predictions(parts_of(two.parts))
    assert [record.id for record in held.records] == list(range(6)) and not held.missing


@pytest.mark.parametrize("kept", [5, 4])
def test_fewer_samples_than_ranks_are_left(compose, sets, tmp_path, kept):
    run = Run(compose, words_of("zeroshot", sets), tmp_path)
    one, two = run.place("one"), run.place("two")
    run.ask(one, batch=1)
    lines = parts_of(one.parts)[0].read_text().splitlines(keepends=True)
    two.parts.mkdir()
    # A header, and for each sample its record and its end.
    (two.parts / "part-0.jsonl").write_text("".join(lines[: 1 + 2 * kept]))
    run.ask(two, world=3)
    assert run.measure(two).rows == run.measure(one).rows
    assert len(read_predictions(parts_of(two.parts)).records) == 6


def test_predictions_of_another_run_are_refused(compose, sets, tmp_path):
    run = Run(compose, words_of("zeroshot", sets), tmp_path)
    place = run.place("a")
    run.ask(place)
    other = Place(place.parts, place.whole, {"checkpoint": "another"})
    with pytest.raises(UserError, match=r"of another run: the checkpoint is another, was none"):
        run.ask(other)
    run.task.evaluation.protocol = "remoteclip"
    with pytest.raises(UserError, match=r"under protocol skyscript, and this evaluation's is rem"):
        run.measure(place)
