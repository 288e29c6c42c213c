"""PUB11 from a list of addresses to the reader's samples, and what the web does on the way."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from curate_stages import Colours
from web_pages import bomb, picture, serving

from rsvlm.app.curate import curate, told
from rsvlm.clients.web import NotFetched, WebFiles
from rsvlm.config.compose import compose, options
from rsvlm.config.validate import check
from rsvlm.curate.images import ImageShapeFilter
from rsvlm.curate.record import Dropped
from rsvlm.curate.rs5m.meta import MetaCaption
from rsvlm.curate.rs5m.pub11 import (
    TEMPLATES,
    KeywordFilter,
    RemoteSensingDetector,
    fit,
    read_weights,
)
from rsvlm.curate.scores import TopK
from rsvlm.curate.sources import ImageFolder, UrlTable
from rsvlm.errors import UserError


@pytest.fixture(scope="module")
def web():
    with serving() as server:
        yield server


def client(**words):
    return WebFiles(
        **{"timeout": 10, "retries": 1, "first_wait": 0.01, "allow_private": True, **words}
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hang", "timeout"),
        ("drip", "timeout"),
        ("slow-head", "timeout"),
        ("round", "too_many_redirects"),
        ("empty", "empty_file"),
        ("gone", "not_found"),
        ("broken", "server_error"),
        ("noai", "opted_out"),
        ("astray", "bad_url"),
        ("local", "bad_url"),
    ],
)
def test_an_address_without_a_file_is_one_word(web, name, reason):
    with pytest.raises(NotFetched) as told:
        client(retries=0, timeout=0.5 if reason == "timeout" else 10).fetch(f"{web[0]}/{name}")
    assert told.value.reason == reason


def test_redirects_are_followed_busy_servers_asked_again_and_bounds_held(web):
    assert client().fetch(f"{web[0]}/to").url.endswith("/ok/1.png")
    assert client().fetch(f"{web[0]}/busy").content == picture(6)
    for url, words, reason in (
        ("/ok/1.png", {"largest": 100}, "too_large"),
        ("/ok/1.png", {"allow_private": False}, "private_address"),
    ):
        with pytest.raises(NotFetched, match=reason):
            client(**words).fetch(web[0] + url)
    for url in ("file:///etc/passwd", "http://", "no address", "http://[::1"):
        with pytest.raises(NotFetched, match="bad_url"):
            client().fetch(url)
    with pytest.raises(NotFetched, match="unreachable"):
        client(retries=0).fetch("http://127.0.0.1:9/a.png")


def test_a_replay_needs_no_network_and_knows_what_failed(web, tmp_path):
    urls = [f"{web[0]}/{name}" for name in ("ok/7.png", "gone", "hang")]
    quick = {"cache": tmp_path, "retries": 0, "timeout": 1.5}
    first = client(**quick).fetch_all(urls)
    before = len(web[1])
    again = client(cache=tmp_path, replay=True).fetch_all([*urls, f"{web[0]}/ok/8.png"])
    assert len(web[1]) == before
    assert again[0].content == first[0].content and again[0].cached
    assert [e.reason for e in again[1:]] == ["not_found", "timeout", "not_in_cache"]
    # What may pass is asked again; what is not there is not.
    client(**quick).fetch_all(urls)
    assert web[1][before:] == ["/hang"]
    with pytest.raises(UserError, match="cache"):
        client(replay=True)


def test_what_our_own_settings_refused_is_asked_again_under_others(web, tmp_path):
    url = f"{web[0]}/ok/7.png"
    for word, now in ({"largest": 9}, {}), ({"allow_private": False}, {}):
        folder = tmp_path / next(iter(word))
        with pytest.raises(NotFetched):
            client(cache=folder, **word).fetch(url)
        assert client(cache=folder, **now).fetch(url).content == picture(7)


def test_behind_a_proxy_no_name_is_looked_up_here(monkeypatch):
    def asked(*_, **__):
        raise OSError("this machine knows no names")

    monkeypatch.setattr("rsvlm.clients.web.socket.getaddrinfo", asked)
    closed = client(allow_private=False)
    for word in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(word, raising=False)
    with pytest.raises(NotFetched, match="unreachable"):
        closed._allow("http://far.example/a.png")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    closed._allow("http://far.example/a.png")
    for url in ("http://near.example/a.png", "http://127.0.0.1/a.png"):
        with pytest.raises(NotFetched, match="unreachable"):
            closed._allow(url)


def test_a_long_list_leaves_no_cookies_behind(web):
    asked = client()
    assert asked.fetch(f"{web[0]}/cookie").content == b"a"
    assert not len(asked._connection().cookies.jar)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"\n <!DOCTYPE html>", "html"),
        (b"GIF or what", "not_an_image"),
        (bomb(), "image_bomb"),
        (picture(3)[:400], "damaged"),
        (picture(3, size=(40, 20)), "too_small"),
    ],
)
def test_what_is_no_picture_is_dropped_with_a_reason(data, reason):
    assert ImageShapeFilter()({"id": "a", "image": data}).reason == reason


def test_no_other_program_is_given_what_the_web_gave(monkeypatch):
    from PIL import EpsImagePlugin, Image

    from rsvlm.curate.work import shown_of

    def run(*_, **__):
        raise AssertionError("Ghostscript was asked")

    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    record = {"id": "a", "image": out.getvalue()}
    assert ImageShapeFilter()(record).reason == "not_an_image"
    assert "preview" not in shown_of(record)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"):
        assert ImageShapeFilter()({"id": "a", "image": picture(1, kind=kind)})["width"] == 64


def test_keywords_of_both_groups():
    asked = KeywordFilter()
    for caption, word, group in [
        ("An Aerial  photograph of Rome", "aerial photo", 1),
        ("Remote sensing of ice", "remote sensing", 1),
        ("spaceborne imagery", "spaceborne imag", 1),
        ("seen by Sentinel 2", "sentinel 2", 2),
        ("MODIS snow", "modis", 2),
    ]:
        found = asked({"id": "a", "caption": caption})
        assert (found["keyword"], found["keyword_group"]) == (word, group)
    for caption in ("a dog", "premodist", "aerial yoga", "sentinel-20", "satellite dish"):
        assert asked({"id": "a", "caption": caption}).reason == "no_keyword"
    assert asked({"id": "a", "caption": " "}).reason == "no_caption"
    with pytest.raises(UserError, match="no regular expression"):
        KeywordFilter(group_1=["("])


def test_there_are_33_templates():
    assert len(set(TEMPLATES)) == 33
    assert TEMPLATES[0] == "a remote sensing image" and "an aerial image" in TEMPLATES


def test_the_best_share_of_both_scores_stays():
    draw = np.random.default_rng(0)
    keys = draw.random((200, 2)).astype(np.float32)
    ids = [str(i) for i in range(200)]
    found = TopK({"clip_score": 0.9, "rs_score": 0.8}).decide(ids, keys)
    stays = [not isinstance(one, Dropped) for one in found]
    low = np.sort(keys, axis=0)[[20, 40], [0, 1]]
    assert stays == (keys >= low).all(axis=1).tolist()
    assert {one.reason for one in found if isinstance(one, Dropped)} == {
        "low_clip_score",
        "low_rs_score",
    }


def test_the_detector_learns_and_its_file_is_read(tmp_path):
    draw = np.random.default_rng(0)
    above, other = draw.normal(0.4, 1, (300, 16)), draw.normal(-0.4, 1, (300, 16))
    right = fit(above, other, tmp_path / "d.npz")
    assert right["test"] > 90
    detector = RemoteSensingDetector(str(tmp_path / "d.npz"))
    detector.setup()
    some = [{"id": "a", "embedding": v.astype(np.float32)} for v in (above.mean(0), other.mean(0))]
    high, low = (record["rs_score"] for record in detector.process(some))
    assert high > 0.9 and low < 0.1
    with pytest.raises(UserError, match="another encoder"):
        detector.process([{"id": "a", "embedding": np.zeros(3, np.float32)}])
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="no detector"):
        read_weights(tmp_path / "no.npz")


ROWS = [
    ("/ok/1.png", "an aerial photo of a lake"),
    ("/ok/1.png#again", "an aerial photo of the same lake"),
    ("/ok/1-copy.jpg", "satellite imagery of a lake"),
    ("/ok/2-grey.png", "a satellite map"),
    ("/ok/9.png", "a cat"),
    ("/ok/9.png", ""),
    *((f"/{name}", f"aerial view of {name}") for name in ("hang", "page", "bomb", "empty", "cut")),
    *((f"/ok/{n}.png", f"aerial image {n}") for n in range(10, 26)),
]


def words(out, table, *more):
    replaced = ["~pipeline.encoder", "+pipeline.encoder._target_=curate_stages.Colours"]
    fast = "pipeline.stages.download.client"
    return [
        "pipeline=rs5m_pub11",
        f"input={table}",
        f"out={out}",
        f"{fast}.timeout=2.5",
        f"{fast}.retries=0",
        f"{fast}.allow_private=true",
        "pipeline.stages.best.ratios.rs_score=0.85",
        "engine.per_part=7",
        *replaced,
        *more,
    ]


@pytest.fixture
def table(web, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    urls = [web[0] + path for path, _ in ROWS]
    data = {"URL": urls, "TEXT": [text for _, text in ROWS]}
    pq.write_table(pa.table(data), tmp_path / "laion400m-0.parquet")
    return tmp_path / "laion400m-0.parquet"


def test_from_a_list_of_addresses_to_the_readers_samples(table, tmp_path, capsys):
    report = curate(compose("curate", words(tmp_path / "out", table)))
    lost = {s["label"]: s["dropped"] for s in report.manifest["stages"]}
    assert lost["keywords"] == {"no_keyword": 1, "no_caption": 1}
    assert lost["urls"] == {"same_url": 1}
    assert lost["download"] == {"timeout": 1, "empty_file": 1}
    assert lost["images"] == {"html": 1, "image_bomb": 1, "damaged": 1}
    assert lost["duplicates"] == {"near_duplicate": 1}
    assert sum(lost["best"].values()) == 2 and lost["best"]["low_rs_score"] == 1
    assert report.manifest["records"] == {"read": 27, "kept": 16}
    assert "27 records read, 16 kept" in capsys.readouterr().out

    from rsvlm.data.datasets.rs5m import RS5M

    splits = {s: n for s, n in report.manifest["written"]["splits"].items() if n}
    read = {split: RS5M(tmp_path / "out", split, missing="skip") for split in splits}
    assert {split: len(held) for split, held in read.items()} == splits
    assert report.manifest["written"]["reader"]["splits"] == list(splits)
    assert not [p for held in read.values() for p in held.problems if "empty" in p]
    sample = read["train"][0]
    assert sample.meta["subset"] == "pub11" and sample.texts[0] in {text for _, text in ROWS}
    described = json.loads((tmp_path / "out/croissant.json").read_text("utf-8"))
    files = {one["@id"]: one for one in described["distribution"]}
    tars = [path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/*/*.tar")]
    tables = {f"pub11_{split}_intermediate.csv" for split in splits}
    assert {*tars, *tables, "pictures", "captions", "names"} == {*files}
    with (tmp_path / "out/pub11_train_intermediate.csv").open(newline="") as file:
        known = {row["img_name"]: row for row in csv.DictReader(file)}
    assert len(known) == splits["train"]
    assert known[sample.meta["id"]]["caption"] == sample.texts[0]
    assert "/ok/" in known[sample.meta["id"]]["url"]
    assert float(known[sample.meta["id"]]["rs_score"]) > 0.5
    assert files["pictures"]["includes"] == "*.img_content"
    assert [{"@id": tar} for tar in sorted(tars)] == files["captions"]["containedIn"]
    assert {one["name"] for one in described["recordSet"]} >= {"captions_of_samples"}
    rows = [json.loads(x) for x in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
    assert len(rows) == 11 and next(r for r in rows if r["reason"] == "html")["detail"]


def test_a_dry_run_draws_a_sheet_of_both(table, tmp_path):
    out = tmp_path / "out"
    report = curate(compose("curate", words(out, table, "dry_run=true", "limit=12")))
    assert report.manifest["records"]["read"] == 12 and not (out / "train").exists()
    from PIL import Image

    with Image.open(out / "dry_run/sheet.png") as sheet:
        assert sheet.width > 1000 and len(sheet.convert("RGB").getcolors(2**24)) > 500
    assert "keyword_filter" in told(report)


@pytest.mark.parametrize("name", sorted({*options("pipeline")}))
def test_every_pipeline_composes_binds_and_names_its_input(name):
    cfg = compose("curate", [f"pipeline={name}", "out=x"])
    assert check(cfg) >= 3 and cfg.pipeline.name == name


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("a.csv", "link,caption\nhttp://a,b\n", "no column 'url'"),
        ("a.jsonl", '{"url": "http://a"}\nno json\n', "cannot be read as jsonl"),
        ("a.jsonl", "[1]\n", "a row is no object"),
        ("a.parquet", "no parquet", "no parquet file, or is damaged"),
        ("a.xlsx", "", "no table that can be read"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, file, text, error):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=error):
        list(UrlTable(str(tmp_path / file)))


def test_one_odd_row_ends_no_table(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"url": "http://a"}\n{"caption": "b"}\n{"url": null}\n')
    assert [r["url"] for r in UrlTable(str(tmp_path / "a.jsonl"))] == ["http://a", "", ""]
    (tmp_path / "b.csv").write_text(f"url,caption\nhttp://a,{'x' * 200_000}\nhttp://b,c\n")
    limit = csv.field_size_limit()
    assert [len(r["caption"]) for r in UrlTable(str(tmp_path / "b.csv"))] == [200_000, 1]
    assert csv.field_size_limit() == limit  # which is the whole process'
    (tmp_path / "c.png").write_bytes(picture(1))
    (tmp_path / "c.json").write_text("{half")
    (record,) = ImageFolder(str(tmp_path))
    assert MetaCaption()(record).reason == "bad_metadata"


def test_text_tables_packed_or_not_give_the_same_records(tmp_path):
    import gzip

    rows = [("http://a/1", "one, two"), ("http://a/2", "three")]
    (tmp_path / "cc3m_1.tsv").write_text("url\tcaption\n" + "".join(f"{u}\t{c}\n" for u, c in rows))
    lines = "".join(json.dumps({"url": u, "text": c}) + "\n" for u, c in rows)
    (tmp_path / "x.jsonl").write_text(lines)
    with gzip.open(tmp_path / "y.csv.gz", "wt") as file:
        file.write("URL,TEXT\n" + "".join(f'{u},"{c}"\n' for u, c in rows))
    (tmp_path / "z.json").write_text(json.dumps([{"url": u, "caption": c} for u, c in rows]))
    (tmp_path / "only.txt").write_text("http://a/1\n\nhttp://a/2\n")
    for name in ("cc3m_1.tsv", "x.jsonl", "y.csv.gz", "z.json"):
        found = list(UrlTable(str(tmp_path / name)))
        assert [(r["url"], r["caption"]) for r in found] == rows
        assert [r["id"] for r in found] == ["0000000000", "0000000001"]
    assert next(iter(UrlTable(str(tmp_path / "cc3m_1.tsv"))))["source"] == "cc3m"
    whole = list(UrlTable(str(tmp_path)))
    assert len(whole) == 10 and len({r["id"] for r in whole}) == 10
    assert (
        UrlTable(str(tmp_path / "x.jsonl")).fingerprint() != UrlTable(str(tmp_path)).fingerprint()
    )
    for path in (None, str(tmp_path / "none"), str(tmp_path / "empty")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="input="):
            list(UrlTable(path))


def test_the_stand_in_sees_green():
    green, grey = Colours().images([picture(1), picture(1, green=False)])
    assert green[0] > grey[0]
