"""A pipeline in one process, in several, killed and gone on with."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import curate_stages as st

from rsvlm.curate import engine as engines
from rsvlm.curate.engine import Pipeline, losses, run
from rsvlm.curate.engines import Local, Ray
from rsvlm.errors import UserError
from rsvlm.files import WriteError, held

HERE = Path(__file__).parent


def pipeline(count=50, stages=None, **settings):
    return Pipeline("numbers", st.Numbers(count), stages or st.stages(), st.Lines(), settings)


def result(out):
    manifest = json.loads((out / "manifest.json").read_text())
    for stage in manifest["stages"]:
        stage.pop("seconds")
    return (out / "lines.txt").read_text(), (out / "dropped.jsonl").read_text(), manifest


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    out = tmp_path_factory.mktemp("once") / "out"
    run(pipeline(), out, Local(per_part=8))
    return result(out)


def test_what_is_kept_dropped_and_written_is_counted(once):
    lines, dropped, manifest = once
    by = {s["label"]: s for s in manifest["stages"]}
    assert by["filter"]["came"] == 50 and by["filter"]["dropped"] == {"multiple": 8}
    assert by["twice"]["went"] == 84 and by["embed"]["came"] == 84
    assert by["rank"]["dropped"] == {"low_rank": 42}
    assert manifest["records"] == {"read": 50, "kept": 42}
    assert manifest["written"] == {"records": 42} and len(lines.splitlines()) == 42
    rows = [json.loads(line) for line in dropped.splitlines()]
    assert len(rows) == manifest["listed"] == 50
    assert rows[0]["detail"] == "0 of 7" and rows[0]["stage"] == "filter"
    ranks = sorted(int(line.split()[2]) for line in lines.splitlines())
    assert ranks == list(range(42))
    assert not (HERE / ".curate").exists()


def test_part_sizes_change_no_record(once, tmp_path):
    run(pipeline(), tmp_path / "out", Local(per_part=50))
    assert sorted(result(tmp_path / "out")[0].split("\n")) == sorted(once[0].split("\n"))


def test_two_workers_give_what_one_gives(once, tmp_path):
    run(pipeline(), tmp_path / "out", Local(workers=2, per_part=8))
    assert result(tmp_path / "out") == once


def test_a_stage_that_fails_leaves_the_parts_that_are_done_and_the_same_words_go_on(
    once, tmp_path, monkeypatch
):
    made = []
    real = engines.decide

    def fail(*args):
        made.extend(sorted((tmp_path / "out/.curate/0").glob("part-*.zip")))
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "decide", fail)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline(), tmp_path / "out", Local(per_part=8))
    times = {path: path.stat().st_mtime_ns for path in made}
    made[2].unlink()
    halves = [tmp_path / "out/lines.txt.77.part", made[2].with_name("part-000002.zip.77.part")]
    for half in halves:
        half.write_text("what a killed process wrote")
    monkeypatch.setattr(engines, "decide", real)
    report = run(pipeline(), tmp_path / "out", Local(per_part=8), keep=True)
    assert report.fresh and result(tmp_path / "out") == once
    assert not any(half.exists() for half in halves)
    after = {path: path.stat().st_mtime_ns for path in made}
    assert [path for path in made if times[path] != after[path]] == [made[2]]


def killed(out, seconds):
    """Runs the pipeline in a process that is killed after a while."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import curate_stages as st\n"
        "from rsvlm.curate.engine import Pipeline, run\n"
        "from rsvlm.curate.engines import Local\n"
        "stages = {'slow': st.Slow(0.004), **st.stages()}\n"
        "print('begins', flush=True)\n"
        "run(Pipeline('numbers', st.Numbers(50), stages, st.Lines(), {}), sys.argv[2],"
        " Local(per_part=8))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(HERE), str(out)], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def whole_after_kills(out, once, seconds):
    for wait in seconds:
        killed(out, wait)
    stages = {"slow": st.Slow(0), **st.stages()}
    run(Pipeline("numbers", st.Numbers(50), stages, st.Lines(), {}), out, Local(per_part=8))
    lines, dropped, manifest = result(out)
    assert (lines, dropped) == once[:2]
    assert manifest["stages"][1:] == once[2]["stages"]


def test_a_run_that_is_killed_ends_as_one_that_is_not(once, tmp_path):
    whole_after_kills(tmp_path / "out", once, [0.12])


@pytest.mark.slow
def test_ten_kills_at_random_points_change_nothing(once, tmp_path):
    draw = random.Random(0)
    whole_after_kills(tmp_path / "out", once, [draw.uniform(0.0, 0.3) for _ in range(10)])


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_of_and_the_same_words_go_on(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    stages = {"dies": st.Dies(str(mark), 30), **st.stages()}
    with pytest.raises(UserError, match="a worker was killed"):
        run(pipeline(stages=stages), tmp_path / "out", Local(workers=2, per_part=8))
    mark.unlink()
    run(pipeline(stages=stages), tmp_path / "out", Local(workers=2, per_part=8))
    assert len((tmp_path / "out/lines.txt").read_text().splitlines()) == 42


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    code = (
        "import sys, curate_stages as st\n"
        "from rsvlm.curate.engine import Pipeline, run\n"
        "from rsvlm.curate.engines import Local\n"
        "if __name__ == '__main__':\n"
        "    stages = {'slow': st.Slow(0.2)}\n"
        "    run(Pipeline('numbers', st.Numbers(400), stages, st.Lines(), {}), sys.argv[1],"
        " Local(workers=2, per_part=2))\n"
    )
    (tmp_path / "many.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "many.py", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/.curate/0/part-*.zip")):
        assert time.monotonic() < deadline, "no part"
        time.sleep(0.02)
    tasks = Path(f"/proc/{process.pid}/task")
    workers = [w for one in tasks.glob("*/children") for w in one.read_text().split()]
    process.kill()
    process.wait()

    def lives(worker):
        try:
            return Path(f"/proc/{worker}/cmdline").read_bytes()  # none of one that has ended
        except FileNotFoundError:
            return b""

    while any(map(lives, workers)):
        assert time.monotonic() < deadline, f"{workers} are left"
        time.sleep(0.02)
    assert len(workers) >= 2


@pytest.mark.slow
def test_two_workers_of_ray_give_what_one_process_gives(once, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    run(pipeline(), tmp_path / "out", Ray(workers=2, per_part=8))
    assert result(tmp_path / "out") == once


def test_ray_without_its_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'rsvlm\[ray\]'"):
        run(pipeline(), tmp_path / "out", Ray(per_part=8))


def test_a_dry_run_writes_no_data_set_shows_what_was_dropped_and_makes_way_for_another(tmp_path):
    report = run(pipeline(), tmp_path, Local(per_part=8), limit=20, dry_run=True)
    assert not (tmp_path / "lines.txt").exists()
    assert report.manifest["records"] == {"read": 20, "kept": 17}
    assert {row["reason"] for row in losses(report)} == {"multiple", "low_rank"}
    assert [path.name for path in report.kept] == [f"part-{i:06d}.zip" for i in range(3)]
    again = run(pipeline(), tmp_path, Local(per_part=8), limit=10, dry_run=True)
    assert again.manifest["records"]["read"] == 10


def test_a_folder_that_is_whole_is_left_as_it_is(tmp_path):
    assert run(pipeline(), tmp_path / "out", Local(per_part=8)).fresh
    before = (tmp_path / "out/lines.txt").stat().st_mtime_ns
    assert not run(pipeline(), tmp_path / "out", Local(per_part=8)).fresh
    assert (tmp_path / "out/lines.txt").stat().st_mtime_ns == before
    assert not (tmp_path / "out/.curate").exists()


def test_a_folder_of_another_pipeline_version_or_setting_is_refused(tmp_path, monkeypatch):
    run(pipeline(), tmp_path / "out", Local(per_part=8))
    with pytest.raises(UserError, match=r"settings.scale was null, now 2"):
        run(pipeline(scale=2), tmp_path / "out", Local(per_part=8))
    with pytest.raises(UserError, match=r"input was \"numbers-50\", now \"numbers-51\""):
        run(pipeline(51), tmp_path / "out", Local(per_part=8))
    with pytest.raises(UserError, match="per_part was 8, now 9"):
        run(pipeline(), tmp_path / "out", Local(per_part=9))
    monkeypatch.setattr(st.NoMultiples, "version", "2")
    with pytest.raises(UserError, match=r'plan was \["filter", "no_multiples", "1"\]'):
        run(pipeline(), tmp_path / "out", Local(per_part=8))


def test_options_are_mended_where_nothing_was_made_yet(tmp_path):
    with pytest.raises(UserError, match="reads 'number'"):
        run(Pipeline("x", st.Captions(), st.stages(), st.Lines(), {}), tmp_path)
    assert run(pipeline(scale=2), tmp_path, Local(per_part=8)).fresh


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"something else \(thesis.tex\)"):
        run(pipeline(), tmp_path)


def _hold(folder, ready, end):
    with held(folder):
        ready.set()
        end.wait(20)


def test_two_runs_into_one_folder_are_refused(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, end))
    process.start()
    try:
        assert ready.wait(20)
        with pytest.raises(UserError, match=f"written by another run .{process.pid} on"):
            run(pipeline(), tmp_path)
    finally:
        end.set()
        process.join()


def test_a_disk_that_fills_leaves_no_half_part(once, tmp_path, monkeypatch):
    real, left = os.fsync, [3]

    def full(fd):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="disk is full"):
        run(pipeline(), tmp_path / "out", Local(per_part=8))
    assert not list((tmp_path / "out/.curate").rglob("*.part"))
    monkeypatch.setattr(os, "fsync", real)
    run(pipeline(), tmp_path / "out", Local(per_part=8))
    assert result(tmp_path / "out") == once


def test_a_damaged_part_is_named(tmp_path):
    report = run(pipeline(), tmp_path, Local(per_part=8), dry_run=True)
    report.kept[1].write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"part-000001\.zip is no part"):
        list(losses(report))


class Same:
    name = "same"
    version = "1"

    def __call__(self, record):
        return [record, dict(record)]


class Odd:
    name = "odd"
    version = "1"

    def __call__(self, record):
        return {**record, "path": Path("a")}


@pytest.mark.parametrize(
    ("stage", "words"), [(Same(), "stands on two records"), (Odd(), "holds a PosixPath")]
)
def test_a_stage_that_breaks_the_contract_is_told(tmp_path, stage, words):
    with pytest.raises(UserError, match=words):
        run(pipeline(stages={"odd": stage}), tmp_path)


def test_a_field_that_no_stage_makes_is_told(tmp_path):
    for name in ("filter", "rank"):
        made = {name: st.stages()[name]}
        source = st.Captions() if name == "filter" else st.Numbers()
        with pytest.raises(UserError, match=r"reads '(number|embedding)', and no record has it"):
            run(Pipeline("x", source, made, st.Lines(), {}), tmp_path / name)

    filled = {"twice": st.Twice()}
    with pytest.raises(UserError, match=r"the writer reads 'embedding', and no record has it"):
        run(Pipeline("x", st.Numbers(), filled, st.Lines(), {}), tmp_path / "writer")


def test_an_empty_input_and_an_odd_limit_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no records"):
        run(pipeline(0), tmp_path)
    with pytest.raises(UserError, match="limit=0"):
        run(pipeline(), tmp_path, limit=0)


def test_numbers_that_are_none_of_their_kind_are_refused(tmp_path):
    from rsvlm.clients.web import WebFiles
    from rsvlm.curate.dedup.stages import SemanticDeduplicator
    from rsvlm.curate.rs5m.writer import RS5MTars
    from rsvlm.curate.scores import TopK

    for make, words in (
        (lambda: TopK({"clip_score": 30}), r"clip_score=30: .*0\.3 for 30 per cent"),
        (lambda: SemanticDeduplicator(threshold=96), "threshold=96"),
        (lambda: RS5MTars(val_ratio=5), "val_ratio=5"),
        (lambda: WebFiles(retries=-1), "retries=-1"),
    ):
        with pytest.raises(UserError, match=words):
            make()
    embed = st.Embed()
    embed.batch_size = 0
    with pytest.raises(UserError, match=r"embed\.batch_size=0"):
        run(pipeline(stages={"embed": embed}), tmp_path)
