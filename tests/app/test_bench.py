"""Suites of evaluations: planned, stopped, resumed, failed, compared, and what their table says."""

import csv
import json

import pytest
import yaml
from omegaconf import OmegaConf

from rsvlm.app.bench.compare import compare as compared
from rsvlm.app.bench.plan import Plan, entries_of, planned
from rsvlm.app.bench.run import bench
from rsvlm.app.bench.state import State, state_of
from rsvlm.app.bench.table import Cell, latex
from rsvlm.config.compose import compose, options
from rsvlm.data.prediction_files import PartWriter
from rsvlm.errors import UserError
from rsvlm.evaluation.clip import ZeroShotEvaluation
from rsvlm.evaluation.retrieval import RetrievalEvaluation

SCENES = "data.dataset.n=6, data.dataset.size=32, data.workers=0, data.eval_batch_size=4"
SUITE = f"""# A suite of a test.
about: three tasks
entries:
  classes: {{recipe: eval_zeroshot_scenes, words: [{SCENES}], show: [top1]}}
  captions: {{words: [data=scenes, evaluation=captions, {SCENES}]}}
  pictures: {{recipe: eval_retrieval_scenes, words: [{SCENES}], show: [mean_recall]}}
  rsicd: {{recipe: eval_retrieval_rsicd, words: []}}
"""
WORDS = ["suite=mine", "model=clip_tiny", "trainer=cpu", "bootstrap=20"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "suite").mkdir()
    (folder / "suite" / "mine.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module", autouse=True)
def no_data_and_no_pictures():
    """Pictures of a run have their own tests, and are half of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSVLM_DATA", "/nowhere")
        for kind in (ZeroShotEvaluation, RetrievalEvaluation):
            patch.setattr(kind, "draw", lambda *_: None)
        yield


class Killed(BaseException):
    """Stands for a signal."""


def ran(own, out, *more, words=WORDS):
    given = [*words, *more]
    return bench(compose("bench", given, own), out, overrides=given)


def goes_on(out, *more):
    given = [f"resume={out}", *more]
    return bench(compose("bench", given), overrides=given)


def table(out):
    """The values of table.csv without what differs from run to run."""
    rows = list(csv.DictReader((out / "table.csv").open()))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(own, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    ran(own, out)
    return out


def test_a_suite_in_one_table_with_what_cannot_be_and_what_is_not_there(whole):
    rows = table(whole)
    known = {row["entry"]: row for row in rows}
    assert {row["status"] for row in rows} == {"done", "unable", "absent"}
    assert known["captions"]["why"] == "writes no answers"
    assert "roots.<data>=" in known["rsicd"]["why"]
    top = next(row for row in rows if row["metric"] == "top1")
    assert top["name"] == "test/scenes/skyscript/top1" and top["low"] <= top["high"]
    assert (top["count"], top["drawn_of"]) == ("6", "")
    text = (whole / "table.md").read_text()
    assert "| captions | - |  |  | cannot: writes no answers |" in text
    assert "1 absent, 1 unable" in text and "## Cost" in text
    assert "\\begin{tabular}" in (whole / "table.tex").read_text()
    assert {"suite", "limit", "seeds", "rows", "differences"} == set(
        json.loads((whole / "table.json").read_text())
    )
    page = (whole / "report.html").read_text()
    assert "Values and their intervals" in page and "skyscript (classification)" in page
    # No model was built for what cannot be, and what could be was measured by the path of eval.
    assert not (whole / "clip_tiny" / "captions" / "config.yaml").exists()
    assert (whole / "clip_tiny" / "classes" / "predictions.jsonl").is_file()


def test_a_killed_bench_goes_on_to_the_same_table(own, whole, tmp_path, monkeypatch):
    append, batches = PartWriter.append, []

    def until_killed(self, *told):
        if len(batches) == 3:
            raise Killed
        batches.append(told)
        append(self, *told)

    monkeypatch.setattr(PartWriter, "append", until_killed)
    with pytest.raises(Killed):
        ran(own, tmp_path)
    assert state_of(tmp_path / "clip_tiny" / "classes").status == "done"
    assert "not run yet" in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(PartWriter, "append", append)
    from rsvlm.inference import build

    built, made = build.build_model, []
    monkeypatch.setattr(build, "build_model", lambda *a, **k: made.append(1) or built(*a, **k))
    goes_on(tmp_path)
    assert table(tmp_path) == table(whole) and len(made) == 1


def test_what_fails_is_said_the_rest_runs_and_it_is_tried_again(own, tmp_path, monkeypatch):
    predict = ZeroShotEvaluation.predict

    def broken(self, model, batch):
        raise RuntimeError("no memory for that")

    monkeypatch.setattr(ZeroShotEvaluation, "predict", broken)
    with pytest.raises(SystemExit) as status:
        ran(own, tmp_path, "~suite.entries.pictures", "bootstrap=0")
    assert status.value.code == 1
    rows = {row["entry"]: row for row in table(tmp_path)}
    assert rows["classes"]["why"] == "no memory for that" and rows["rsicd"]["status"] == "absent"
    assert "RuntimeError" in (tmp_path / "clip_tiny" / "classes" / "error.txt").read_text()
    monkeypatch.setattr(ZeroShotEvaluation, "predict", predict)
    goes_on(tmp_path)
    assert {row["status"] for row in table(tmp_path)} == {"done", "unable", "absent"}


ONLY = ["suite=mine", "trainer=cpu", "bootstrap=20", "~suite.entries.pictures"]


@pytest.mark.slow
def test_models_stand_side_by_side_on_a_drawn_sample_and_are_compared(own, tmp_path, whole):
    ran(own, tmp_path, "models=[clip_tiny,clip_tiny]", "limit=3", words=ONLY)
    text = (tmp_path / "table.md").read_text()
    assert "| clip_tiny | clip_tiny_2 |" in text and "3 samples were drawn" in text
    assert "the interval of their difference [+0.00, +0.00] holds 0" in text
    rows = [row for row in table(tmp_path) if row["name"]]
    assert {(row["drawn_of"], row["drawn_seed"]) for row in rows} == {("6", "0")}
    assert {row["count"] for row in rows if row["metric"] == "top1"} == {"3"}
    assert "3 (drawn of 6 samples)" in text
    with pytest.raises(UserError, match="takes two folders"):
        compared([str(whole)])
    with pytest.raises(UserError, match="no bench's folder"):
        compared([str(whole), str(own)])


@pytest.mark.slow
def test_seeds_stand_in_one_row_and_two_benches_are_compared(own, tmp_path, whole):
    ran(own, tmp_path, "model=clip_tiny", "seeds=[0,1]", words=ONLY)
    assert "(2 seeds)" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "clip_tiny" / "classes" / "seed_1" / "metrics.json").is_file()
    said = compared([str(whole), str(tmp_path)])
    assert "second less first" in said and "scenes/skyscript/top1" in said


@pytest.fixture(scope="module")
def composed(own):
    return compose("bench", ["suite=mine"], own)


@pytest.mark.parametrize(
    ("values", "words", "said"),
    [
        ({"models": ["clip_tiny"]}, ["model=clip_tiny"], r"models=\[<option>@<check"),
        ({"models": ["clip_tyni"]}, [], "Did you mean clip_tiny"),
        ({"limit": 0}, [], "limit=null for all"),
        ({"bootstrap": 5}, [], "at least 20"),
        ({"seeds": [1, 1]}, [], "each seed once"),
        ({"roots": {"rsicdd": "/x"}}, [], "Did you mean rsicd"),
        ({}, ["ckpt='/nowhere/{seed}.ckpt'"], r"/nowhere/0\.ckpt: there is no such file"),
        ({"suite": None}, [], "rsvlm bench needs a suite.*generated"),
    ],
)
def test_words_that_do_not_go_together(own, composed, values, words, said):
    cfg = composed.copy()
    for key, value in values.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises(UserError, match=said):
        planned(cfg, words, "mine", own)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"recipe": "eval_zeroshot_scnes"}, "entry x: there is no recipe.*eval_zeroshot_scenes"),
        ({"words": ["evaluation=zeroshoot"]}, "Did you mean zeroshot"),
        ({"recip": "a", "words": ["a=b"]}, "recip is not known. Did you mean recipe"),
        ({"show": ["top1"]}, "needs recipe"),
    ],
)
def test_an_entry_of_a_suite_that_cannot_be(entry, said):
    with pytest.raises(UserError, match=said):
        entries_of({"entries": {"x": entry}}, "bad", None)


def test_a_suite_is_a_file_and_paths_hold_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "my suite.yaml").write_text(SUITE)
    cfg = compose("bench", ["suite=my suite.yaml", "roots.rsicd=data"])
    words = ["ckpt='run'", "++model.cache=replies", "model.lm.weights=Qwen/x", "ckpt=zoo:x"]
    plan = planned(cfg, words, None, None)
    assert plan.suite == "my_suite" and plan.entries[0].name == "classes"
    cache = f"++model.cache='{tmp_path}/replies'"
    assert plan.words == [f"ckpt='{tmp_path}/run'", cache, *words[2:]]
    assert plan.roots == {"rsicd": f"{tmp_path}/data"}
    with pytest.raises(UserError, match=r"suite=none\.yaml: there is no such file"):
        compose("bench", ["suite=none.yaml"])
    (tmp_path / "bad.yaml").write_text("entries: [}")
    with pytest.raises(UserError, match=r"bad\.yaml is no YAML"):
        planned(compose("bench", ["suite=bad.yaml"]), [], None, None)


def test_a_cell_says_how_many_seeds_have_a_value():
    cell = Cell(State("done"), [50.0], seeds=3)
    assert cell.text == "50.00 (1 of 3 seeds)"
    assert Cell(State("done"), [1.0, 2.0], seeds=2).text == "1.50 ± 0.707 (2 seeds)"
    assert latex([["a^b <c>"]]).count(r"a\textasciicircum{}b $<$c$>$") == 1


def test_resuming_takes_a_bench_and_no_other_model(own, whole, tmp_path):
    from rsvlm.app.measure import check_is_evaluation

    with pytest.raises(UserError, match=r"model=clip_small would make it another one"):
        goes_on(whole, "model=clip_small")
    # The same words in its folder go on with it; others would take its values for theirs.
    with pytest.raises(UserError, match=r"holds another bench \(it differs in words, limit\)"):
        ran(own, whole, "limit=3", "data.eval_batch_size=2")
    before = table(whole)
    ran(own, whole)
    assert table(whole) == before
    with pytest.raises(UserError, match="not all models of this bench are"):
        goes_on(whole, "model.timeout=9")
    run = whole / "clip_tiny" / "classes"
    with pytest.raises(UserError, match="no bench's folder"):
        goes_on(run)
    with pytest.raises(UserError, match="rsvlm bench resume="):
        check_is_evaluation(whole)
    (tmp_path / "config.yaml").write_text("name: bench\n")
    (tmp_path / "run.json").write_text('{"verb": "bench"}')
    (tmp_path / "bench.json").write_text("[]")
    with pytest.raises(UserError, match=r"holds no bench\.json that can be read"):
        goes_on(tmp_path)


def test_a_plan_from_a_file_builds_no_class_of_a_stranger(whole, tmp_path):
    held = json.loads((whole / "bench.json").read_text())
    held["subjects"][0]["label"] = "../../elsewhere"
    (tmp_path / "bench.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="can be read"):
        Plan.read(tmp_path)
    plan = Plan.read(whole)
    plan.words.append("++model.stem._target_=os.system")
    (tmp_path / "config.yaml").write_text("name: bench\n")
    (tmp_path / "run.json").write_text('{"verb": "bench"}')
    plan.write(tmp_path)
    with pytest.raises(SystemExit):
        goes_on(tmp_path)
    assert "none of the classes" in state_of(tmp_path / "clip_tiny" / "classes").why


@pytest.mark.parametrize("suite", options("suite"))
def test_the_suites_that_come_along_name_what_is_there(root, suite):
    held = yaml.safe_load((root / "conf" / "suite" / f"{suite}.yaml").read_text())
    assert held["about"] and entries_of(held, suite, None)
