"""A sweep ends with a table, and is a report's folder."""

import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.app.sweep import MOST, sweep_plot, sweep_table
from rsvlm.cli import report
from rsvlm.errors import UserError
from rsvlm.report import figures, write_report
from rsvlm.report.sweep import sweep_curves


@pytest.fixture
def sweep(tmp_path):
    for number, rate in enumerate(("1e-4", "3e-4")):
        job = tmp_path / str(number)
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra" / "overrides.yaml").write_text(
            f"- experiment=clip_tiny_scenes\n- optimizer.lr={rate}\n"
        )
        (job / "config.yaml").write_text("name: clip\n")
        row = {
            "name": "test/scenes/remoteclip/mean_recall",
            "value": 10.0 + number,
            "protocol": "remoteclip",
            "dataset": "scenes",
            "split": "test",
            "count": 4,
        }
        (job / "metrics.json").write_text(json.dumps({"run": str(job), "results": [row]}))
    return tmp_path


def test_the_table_names_what_differs_and_what_was_reached(sweep):
    lines = sweep_table(sweep).splitlines()
    assert lines[0] == "| job | words | scenes/remoteclip/mean_recall |"
    assert lines[2:] == ["| 0 | optimizer.lr=1e-4 | 10.00 |", "| 1 | optimizer.lr=3e-4 | 11.00 |"]
    (sweep / "1" / "metrics.json").unlink()
    assert sweep_table(sweep).splitlines()[3] == "| 1 | optimizer.lr=3e-4 | not finished |"
    assert sweep_table(sweep / "0") == ""


def test_a_swept_number_is_drawn(sweep):
    assert sweep_plot(sweep) == sweep / "sweep.png" and (sweep / "sweep.png").is_file()
    overrides = sweep / "1" / ".hydra" / "overrides.yaml"
    overrides.write_text("- experiment=other\n- optimizer.lr=1e-4\n")
    assert sweep_plot(sweep) is None, "no number differs"


@pytest.mark.usefixtures("whole_pictures")
def test_lines_that_lie_on_each_other_are_both_seen(tmp_path):
    jobs = [({"a": str(x), "k": k}, {"s/d/p/oa": 10.0 * x}) for k in "12" for x in (0, 1, 2)]
    held = Image.open(sweep_curves(jobs, tmp_path / "a.png")).convert("RGB")
    seen = np.asarray(held).astype(int)
    for colour in (figures.LIGHT.first, figures.LIGHT.second):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (abs(seen - rgb).sum(-1) < 30).sum() > 800, colour  # the legend has 300


def test_many_metrics_leave_those_that_differ(sweep):
    for number in (0, 1):
        path = sweep / str(number) / "metrics.json"
        held = json.loads(path.read_text())
        (row,) = held["results"]
        same = [row | {"name": f"test/scenes/remoteclip/same{i}", "value": 1} for i in range(MOST)]
        path.write_text(json.dumps(held | {"results": [*same, row]}))
    head = sweep_table(sweep).splitlines()[0]
    assert "mean_recall" in head and head.count("|") == MOST + 3


def test_report_takes_a_sweep_and_tells_its_jobs_apart(sweep, capsys):
    report.main([str(sweep)])
    page = (sweep / "report.html").read_text("utf-8")
    assert "clip 0 (optimizer.lr=1e-4)" in page and "clip 1 (optimizer.lr=3e-4)" in page
    assert str(sweep / "report.html") in capsys.readouterr().out
    alone = write_report(sweep / "0", out=sweep / "one.html").read_text("utf-8")
    assert "<title>clip</title>" in alone
    (sweep / "1" / "metrics.json").unlink()
    (sweep / "0" / "metrics.json").unlink()
    with pytest.raises(UserError, match="none of the 2 jobs"):
        report.main([str(sweep)])
    with pytest.raises(UserError, match="resume="):
        report.main([str(sweep / "0" / ".hydra")])
