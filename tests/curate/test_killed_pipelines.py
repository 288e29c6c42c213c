"""Each pipeline, killed between two parts, with two workers, on Ray, builds what one run builds."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import web_pages
from test_rs5m_pub11 import ROWS, words

from rsvlm.app.curate import curate
from rsvlm.config.compose import compose

HERE = Path(__file__).parent
pytest.importorskip("rasterio")
pytest.importorskip("osmium")

RUN = """
import sys; sys.path[:0] = sys.argv[1].split(":")
from rsvlm.app.curate import curate
from rsvlm.config.compose import compose
curate(compose("curate", sys.argv[2:]))
"""


def changechat(folder):
    from rsvlm.synthetic.export import FORMATS, export

    export(FORMATS["levir_mci"], folder / "mci", {"train": 12, "val": 2, "test": 2}, size=64)
    return ["pipeline=changechat", f"masks={folder / 'mci'}", "engine.per_part=4"]


def skyscript(folder):
    from rsvlm.synthetic.region import write_region

    write_region(folder / "region", 3, size=512)
    return ["pipeline=skyscript_unfiltered", f"osm={folder / 'region/region.osm.pbf'}",
            f"imagery={folder / 'region/imagery'}", "pipeline.stages.images.pixels=96",
            "engine.per_part=16"]  # fmt: skip


def rs5m(folder, url):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for row in ROWS if not row[0].endswith("/hang")]
    table = pa.table({"URL": [url + path for path, _ in rows], "TEXT": [text for _, text in rows]})
    pq.write_table(table, folder / "laion400m-0.parquet")
    return [word for word in words("", folder / "laion400m-0.parquet") if word != "out="]


def files(out):
    """What was built, without what says when and where."""
    later = ("card.html", "card.json", "croissant.json", "manifest.json", ".lock")
    held = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in later and path.suffix != ".npz"  # readers' indexes
    }
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    counts = [{**one, "seconds": 0} for one in manifest["stages"]]
    return held, manifest["records"], counts, manifest["listed"]


def killed(given, out):
    """Runs it in a process that is killed when its second part is there."""
    path = ":".join([str(HERE), str(HERE.parent)])
    command = [sys.executable, "-c", RUN, path, *given, f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len([*out.glob(".curate/*/part-*.zip")]) < 2 and process.poll() is None:
        assert time.monotonic() < end, "no part"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "it had ended before"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["changechat", "skyscript", "rs5m"])
def test_a_pipeline_that_is_killed_builds_the_same(name, tmp_path):
    with web_pages.serving() as (url, _):
        given = rs5m(tmp_path, url) if name == "rs5m" else globals()[name](tmp_path)
        curate(compose("curate", [*given, f"out={tmp_path / 'once'}"]))
        once = files(tmp_path / "once")
        assert len(once[0]) >= 3
        killed(given, tmp_path / "killed")
        assert not (tmp_path / "killed/manifest.json").exists()
        curate(compose("curate", [*given, f"out={tmp_path / 'killed'}"]))
        assert files(tmp_path / "killed") == once
        curate(compose("curate", [*given, "engine.workers=2", f"out={tmp_path / 'two'}"]))
        assert files(tmp_path / "two") == once


@pytest.fixture(scope="module")
def cluster():
    """A session of Ray that was started elsewhere than where commands are typed."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), before])))
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        ray.init("local", num_cpus=3, object_store_memory=200 * 2**20, **options)
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["changechat", "skyscript", "rs5m"])
def test_two_workers_of_ray_build_what_one_process_builds(name, tmp_path, monkeypatch, cluster):
    monkeypatch.chdir(tmp_path)
    with web_pages.serving() as (url, _):
        given = rs5m(tmp_path, url) if name == "rs5m" else globals()[name](tmp_path)
        given = [word.replace(f"{tmp_path}/", "") for word in given]
        curate(compose("curate", [*given, "out=once"]))
        curate(compose("curate", [*given, "out=ray", "engine=ray", "engine.workers=2"]))
    assert files(tmp_path / "ray") == files(tmp_path / "once")
    assert len(files(tmp_path / "ray")[0]) >= 3
