"""Extracts and imagery from servers: paged, resumed, replayed, and said when wrong."""

import io
import json

import numpy as np
import pytest
from loopback import serving

from rsvlm.cli.gather import main
from rsvlm.clients.bounds import bounds_of
from rsvlm.clients.geocoding import Geocoder
from rsvlm.clients.http import EndpointError, HTTPClient
from rsvlm.clients.overpass import Overpass
from rsvlm.clients.stac import StacCatalogue
from rsvlm.curate.gather import gather_osm
from rsvlm.curate.geocoding import Geocoding, ReverseGeocoding
from rsvlm.curate.record import Dropped
from rsvlm.errors import UserError

BOX = "-1.0,50.0,-0.9,50.1"
ELEMENTS = [
    {"type": "way", "id": 7, "nodes": [2, 3, 4, 2], "tags": {"leisure": "stadium"}},
    {"type": "node", "id": 1, "lon": -0.95, "lat": 50.05, "tags": {"man_made": "tower"}},
    {"type": "node", "id": 2, "lon": -0.958, "lat": 50.06},
    {"type": "node", "id": 3, "lon": -0.957, "lat": 50.061},
    {"type": "node", "id": 4, "lon": -0.956, "lat": 50.06},
    {"type": "node", "id": 3, "lon": -0.957, "lat": 50.061},  # a second time, as Overpass does
]  # fmt: skip


def client(**options):
    return HTTPClient(retries=0, first_wait=0, words="--", **options)


def tiff():
    """A small raster with a place."""
    rasterio = pytest.importorskip("rasterio")
    out = io.BytesIO()
    pixels = np.full((3, 32, 32), 90, np.uint8)
    where = rasterio.transform.from_bounds(-1, 50, -0.9, 50.1, 32, 32)
    with rasterio.open(out, "w", driver="GTiff", width=32, height=32, count=3, dtype="uint8",
                       crs="EPSG:4326", transform=where) as file:  # fmt: skip
        file.write(pixels)
    return out.getvalue()


def test_an_extract_is_what_osm_reads(tmp_path, capsys):
    pytest.importorskip("osmium")
    from rsvlm.curate.skyscript.osm import OsmObjects

    out = tmp_path / "region.osm.pbf"
    words = ["osm", f"--bbox={BOX}", "--tag", "leisure=stadium", "--tag", "man_made",
             "--cache", str(tmp_path / "replies"), "--out", str(out)]  # fmt: skip
    with serving(lambda _: (200, {"elements": ELEMENTS}, {})) as script:
        main([*words, "--url", script.url])
        query = script.asked[0]["query"]["data"]
        assert 'nwr["leisure"="stadium"](50.0,-1.0,50.1,-0.9);nwr["man_made"](50.0' in query
        assert "rsvlm" in script.headers["user-agent"]
        main([*words, "--url", script.url, "--replay"])
        assert len(script.asked) == 1
    assert "4 nodes, 1 ways, 0 relations" in capsys.readouterr().out
    found = {one["id"]: one for one in OsmObjects(str(out))}
    assert {key: one["tags"] for key, one in found.items()} == {
        "n1": {"man_made": "tower"},
        "a14": {"leisure": "stadium"},
    }
    assert found["n1"]["lonlat"] == pytest.approx([-0.95, 50.05])


def test_a_full_disk_leaves_no_extract_and_is_told(tmp_path, monkeypatch):
    pytest.importorskip("osmium")
    from rsvlm.files import WriteError

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rsvlm.curate.gather.shutil.copyfileobj", full)
    with serving(lambda _: (200, {"elements": ELEMENTS}, {})) as script:
        server = Overpass(client(), script.url)
        with pytest.raises(WriteError, match="the disk is full"):
            gather_osm(server, bounds_of(BOX), [], tmp_path / "region.osm.pbf")
        assert not list(tmp_path.iterdir())
        monkeypatch.undo()
        for name in ("region.osm.pbf", "region.osm"):
            gather_osm(server, bounds_of(BOX), [], tmp_path / name)
    assert (tmp_path / "region.osm").read_bytes().startswith(b"<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["region.osm", "region.osm.pbf"]


def test_a_server_that_gave_up_is_not_an_empty_box():
    remark = "runtime error: Query timed out"
    with (
        serving(lambda _: (200, {"elements": [], "remark": remark}, {})) as script,
        pytest.raises(EndpointError, match=r"gave up: .*timed out.*smaller box"),
    ):
        Overpass(client(), script.url).objects(bounds_of(BOX), ["building"])
    with pytest.raises(UserError, match="no tag"):
        Overpass(client(), script.url).objects(bounds_of(BOX), ['a"];out;'])
    for wrong in ("1,2,3", "2,0,1,1", "0,0,1,91", "a,b,c,d"):
        with pytest.raises(UserError, match="box"):
            bounds_of(wrong)


def catalogue(url, page):
    """Five items on three pages, the second by POST and the third by GET."""

    def item(n):
        day = f"2021-06-{n + 1:02d}T10:00:00Z"
        return {
            "id": f"i{n}",
            "collection": "naip",
            "bbox": [-1, 50, -0.9, 50.1],
            "properties": {"datetime": day, "eo:cloud_cover": 10.0 * n},
            "assets": {"image": {"href": f"{url}/files/{n}.tif"}, "far": {"href": "s3://b/x"}},
        }

    pages = [([0, 1], "POST"), ([2, 3], "GET"), ([3, 4], None)]
    numbers, following = pages[page]
    link = {"rel": "next", "href": f"{url}/search?page={page + 1}", "method": following}
    if following == "POST":
        link |= {"href": f"{url}/search", "body": {"page": page + 1}, "merge": True}
    return {"features": [item(n) for n in numbers], "links": [link] if following else []}


def test_imagery_is_fetched_once(tmp_path, capsys):
    content, away = tiff(), {"files": True}

    def answer(body):
        if "/files/" in body.get("path", ""):
            if body["path"].endswith("2.tif") and away["files"]:
                return 404, {"detail": "gone"}, {}
            return 200, content, {"Content-Type": "image/tiff"}
        page = int(body.get("page") or body.get("query", {}).get("page") or 0)
        return 200, catalogue(away["url"], page), {}

    out = tmp_path / "naip"
    words = ["imagery", "--collection", "naip", "--asset", "image", f"--bbox={BOX}",
             "--time", "2021-06-01/2021-06-30", "--most-clouds", "35", "--out", str(out),
             "--per_minute", "100000", "--allow-private"]  # fmt: skip
    with serving(answer) as script:
        away["url"] = script.url
        with pytest.raises(UserError, match="1 files could not be fetched"):
            main([*words, "--stac", script.url])
        assert "i2_20210603.tif: not_found" in capsys.readouterr().out
        assert script.asked[0]["datetime"] == "2021-06-01T00:00:00Z/2021-06-30T23:59:59Z"
        away["files"] = False
        asked = len(script.asked)
        main([*words, "--stac", script.url])
        files = [body for body in script.asked[asked:] if "/files/" in body.get("path", "")]
        assert [body["path"] for body in files] == ["/v1/files/2.tif"]
        assert "1 fetched, 3 there, 1 cloudy, 0 failed" in capsys.readouterr().out
        held = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
        assert [row["file"] for row in held] == [f"i{n}_2021060{n + 1}.tif" for n in (0, 1, 3, 2)]
        from rsvlm.curate.skyscript.frames import frames

        found, wrong = frames(out)
        assert len(found) == 4 and not wrong and found[0].date == (2021, 6, 1)
        (first,) = StacCatalogue(client(), script.url).items(["naip"], bounds_of(BOX), limit=1)
        with pytest.raises(UserError, match="s3://"):
            first.address("far")
        with pytest.raises(UserError, match="Did you mean image"):
            first.address("imag")


@pytest.mark.parametrize(
    ("status", "body", "match"),
    [(200, {"type": "Catalog"}, "STAC API"), (404, {"detail": "no"}, "server's address")],
)
def test_what_is_no_catalogue_is_said(status, body, match):
    with (
        serving(lambda _: (status, body, {})) as script,
        pytest.raises(EndpointError, match=match),
    ):
        list(StacCatalogue(client(), script.url).items(["a"], bounds_of(BOX)))


def test_places_have_names(tmp_path):
    def answer(body):
        at = body["query"]
        if body["path"].endswith("/search"):
            found = [{"lat": "48.85", "lon": "2.35", "display_name": "Paris, France"}]
            return 200, found if at["q"] == "Paris" else [], {}
        if at["lat"] == "0.000":
            return 200, {"error": "Unable to geocode"}, {}
        address = {"town": "Whitby", "country": "United Kingdom", "country_code": "gb"}
        return 200, {"lat": at["lat"], "lon": at["lon"], "address": address}, {}

    with serving(answer) as script:
        geocoder = Geocoder(client(), script.url)
        assert geocoder.search("Paris").name == "Paris, France"
        assert geocoder.search("Nowhere") is None and geocoder.reverse(0.0, 0.0) is None
        with pytest.raises(UserError, match="the wrong way round"):
            geocoder.reverse(50.0, 100.0)
        options = {"url": script.url, "cache": str(tmp_path), "per_minute": None}
        stage, asked = ReverseGeocoding(**options), len(script.asked)
        stage.setup()
        records = [
            {"id": "a", "lonlat": [-0.62, 54.48]},
            {"id": "b", "longitude": -0.62004, "latitude": 54.48001},  # a neighbour
            {"id": "c", "lonlat": [0.0, 0.0]},
            {"id": "d"},
            {"id": "e", "lonlat": [500.0, 0.0]},
        ]
        found = stage.process(records)
        assert [one["city"] for one in found[:3]] == ["Whitby", "Whitby", ""]
        assert found[0]["country"] == "United Kingdom" and found[0]["country_code"] == "gb"
        assert found[3] == Dropped("no_place") and found[4].reason == "bad_place"
        assert len(script.asked) == asked + 2
        named = Geocoding(url=script.url, per_minute=None)
        named.setup()
        words = ({"id": "a", "name": "Paris"}, {"id": "b", "name": "Nowhere"}, {"id": "c"})
        paris, nowhere, none = named.process(words)
        assert paris["lonlat"] == [2.35, 48.85]
        assert (nowhere, none) == (Dropped("unknown_place", "Nowhere"), Dropped("no_place"))
    again = ReverseGeocoding(replay=True, **options)  # the server is away
    again.setup()
    assert again.process(records) == found
