"""Stopped evaluations through the entry points, and what is made of their predictions."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from rsvlm.app import run
from rsvlm.app.measure import draw_again, measure_again
from rsvlm.cli.metrics import main as metrics
from rsvlm.data.prediction_files import PartWriter
from rsvlm.errors import UserError
from rsvlm.evaluation.clip import ZeroShotEvaluation

WORDS = [
    "model=clip_tiny",
    "data=scenes",
    "data.dataset.n=12",
    "data.dataset.size=32",
    "data.eval_batch_size=2",
    "data.workers=0",
    "trainer=cpu",
    "logger=none",
    "evaluation=zeroshot",
    "evaluation.bootstrap=50",
]


class Killed(BaseException):
    """Stands for a signal."""


def results(out):
    held = json.loads((out / "metrics.json").read_text())
    return list(held["results"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from rsvlm.config.compose import compose

    out = tmp_path_factory.mktemp("whole")
    run.evaluate(compose("eval", WORDS), out, overrides=[])
    return out


def test_a_killed_evaluation_goes_on_and_asks_only_what_is_missing(
    compose, tmp_path, monkeypatch, whole
):
    append, batches = PartWriter.append, []

    def until_killed(self, *told):
        if len(batches) == 3:
            raise Killed
        batches.append(list(told[1]))
        append(self, *told)

    monkeypatch.setattr(PartWriter, "append", until_killed)
    with pytest.raises(Killed):
        run.evaluate(compose("eval", WORDS), tmp_path, overrides=[])
    with (tmp_path / "predictions" / "part-0.jsonl").open("a") as file:
        file.write('{"id": 6, "predic')  # a torn end
    monkeypatch.setattr(PartWriter, "append", append)
    asked = []
    predict = ZeroShotEvaluation.predict

    def counted(self, model, batch):
        asked.extend(batch.index.tolist())
        return predict(self, model, batch)

    monkeypatch.setattr(ZeroShotEvaluation, "predict", counted)
    again = compose("eval", [f"resume={tmp_path}"])
    values = run.evaluate(again, overrides=[f"resume={tmp_path}"])
    assert batches == [[0, 1], [2, 3], [4, 5]] and asked == list(range(6, 12))
    assert results(tmp_path) == results(whole) and len(values) == len(results(whole))
    # A finished one asks nothing, and says the same.
    asked.clear()
    run.evaluate(again, overrides=[f"resume={tmp_path}"])
    assert asked == [] and results(tmp_path) == results(whole)


def test_metrics_from_gives_the_same_file_and_redraws(whole):
    before = json.loads((whole / "metrics.json").read_text())
    assert {"low", "high", "level", "bootstrap", "seed"} <= set(before["results"][0])
    picture = whole / "pictures" / "confusion.png"
    picture.unlink()
    draw_again(whole)
    assert picture.is_file()
    (whole / "metrics.json").unlink()
    measure_again(whole)
    after = json.loads((whole / "metrics.json").read_text())
    after.pop("measured_by", None)
    before.pop("measured_by", None)
    assert after == before
    page = (whole / "report.html").read_text()
    assert "from a bootstrap over images" in page and "of 50 bootstrap samples" in page


def test_other_intervals_and_none(whole, tmp_path, capsys):
    metrics(["from", str(whole), "--bootstrap", "30", "--seed", "4"])
    row = results(whole)[0]
    assert (row["bootstrap"], row["seed"]) == (30, 4)
    metrics(["from", str(whole), "--bootstrap", "0"])
    assert "low" not in results(whole)[0]
    metrics(["from", str(whole)])
    assert results(whole)[0]["bootstrap"] == 50
    capsys.readouterr()


def test_two_runs_in_pairs(compose, whole, tmp_path, capsys):
    run.evaluate(compose("eval", [*WORDS, "seed=7"]), tmp_path, overrides=[])
    metrics(["compare", str(whole), str(tmp_path), "--paired", "--out", str(tmp_path / "d.json")])
    said = capsys.readouterr().out
    assert "second less first, 95 % intervals" in said and "test/scenes/skyscript/top1" in said
    rows = {row["name"]: row for row in json.loads((tmp_path / "d.json").read_text())["results"]}
    row = rows["test/scenes/skyscript/top5"]
    values = {r["name"]: r["value"] for r in results(tmp_path)}
    assert row["second"] == pytest.approx(values[row["name"]]) and row["images"] == 12
    with pytest.raises(UserError, match="two runs, not 1"):
        metrics(["compare", str(whole), "--paired"])
    with pytest.raises(UserError, match=r"is no run's folder: --paired reads predictions"):
        metrics(["compare", str(whole / "metrics.json"), str(tmp_path), "--paired"])
    file = tmp_path / "predictions.jsonl"
    text = file.read_text()
    # Another truth for the same image.
    label = next(line for line in text.splitlines()[1:] if '"label"' in line)
    held = json.loads(label)
    held["label"] = (held["label"] + 1) % 3
    file.write_text(text.replace(label, json.dumps(held)))
    with pytest.raises(UserError, match=r"another truth \(label\)"):
        metrics(["compare", str(whole), str(tmp_path), "--paired"])


def test_what_cannot_go_on(compose, whole, tmp_path):
    again = [f"resume={whole}", "seed=3"]
    with pytest.raises(UserError, match=r"seed=3 would make it another one"):
        run.evaluate(compose("eval", again), overrides=again)
    with pytest.raises(UserError, match=r"no config\.yaml, so this is not"):
        run.evaluate(compose("eval", [f"resume={tmp_path}"]), overrides=[f"resume={tmp_path}"])
    training = tmp_path / "training"
    training.mkdir()
    (training / "config.yaml").write_text((whole / "config.yaml").read_text())
    (training / "run.json").write_text('{"verb": "train"}')
    words = [f"resume={training}"]
    with pytest.raises(UserError, match=r"folder of a training.*rsvlm train resume=.*rsvlm eval c"):
        run.evaluate(compose("eval", words), overrides=words)
    words = [f"resume={whole}"]
    with pytest.raises(UserError, match="folder of an evaluation"):
        run.fit(compose("train", words), overrides=words)
    # The same folder, another model.
    with pytest.raises(UserError, match=r"of another run: the configuration is .*new folder"):
        run.evaluate(compose("eval", [*WORDS, "seed=9"]), whole, overrides=[])


def test_what_has_no_predictions_or_not_all(compose, whole, tmp_path):
    (tmp_path / "config.yaml").write_text((whole / "config.yaml").read_text())
    with pytest.raises(UserError, match=r"holds no predictions.*evaluate again"):
        measure_again(tmp_path)
    (tmp_path / "predictions").mkdir()
    lines = (whole / "predictions" / "part-0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "predictions" / "part-0.jsonl").write_text("".join(lines[:4]))
    with pytest.raises(UserError, match=r"10 of 12 samples have no prediction yet.*eval resume="):
        measure_again(tmp_path)


@pytest.mark.slow
def test_kill_9_at_three_random_moments(whole, tmp_path):
    """Real processes, killed by the system; the file may end anywhere."""
    draw = random.Random(0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-c", "from rsvlm.cli.main import main; main()", "eval"]
    part = tmp_path / "run" / "predictions" / "part-0.jsonl"
    words = [*WORDS, f"hydra.run.dir={tmp_path / 'run'}"]
    for _ in range(3):
        process = subprocess.Popen(
            [*start, *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        before = part.stat().st_size if part.is_file() else 0
        while process.poll() is None and not (part.is_file() and part.stat().st_size > before):
            time.sleep(0.02)
        time.sleep(draw.random() * 0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        words = [f"resume={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'hydra'}"]
    done = subprocess.run(
        [*start, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert results(tmp_path / "run") == results(whole)
