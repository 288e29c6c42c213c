"""`rsvlm knowledge`: build, search, add, remove, info, from a folder and from RSWK."""

import json

import pytest
import torch
from PIL import Image

from rsvlm import checkpoints
from rsvlm.cli.main import main
from rsvlm.encoders.clip.model import clip
from rsvlm.errors import UserError
from rsvlm.inference.knowledge import with_knowledge


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "tiny.ckpt"
    torch.save(checkpoints.pack(clip("tiny", activation="gelu"), {}, {}), path)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    records = []
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (50, 40), colour).save(root / f"{colour}.png")
        records.append(
            {"id": colour, "name": f"{colour} hall", "category": "Museum", "image": f"{colour}.png",
             "world": {"Construction_Period": f"18{i}0"}}
        )  # fmt: skip
    (root / "bad.png").write_bytes(b"")
    records.append({"id": "bad", "image": "bad.png"})
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return root, path


def test_a_folder_with_records(folder, tmp_path, checkpoint, capsys):
    root, records = folder
    kb = str(tmp_path / "kb")
    words = ["--root", str(root), "--records", str(records), "--out", kb]
    model = ["--model", "clip_tiny", "--ckpt", str(checkpoint)]
    assert main(["knowledge", "build", *words, *model]) == 0
    said = capsys.readouterr().out
    assert "3 records, 3 pictures" in said and "left out: bad: " in said
    ask = ["knowledge", "search", kb, "--image", str(root / "green.png")]
    assert main([*ask, "--text", "when was it built?", "-k", "9", "--alpha", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["id"] == "green" and "1810" in lines[0]["text"]
    assert main([*ask, "-k", "2", "--exclude-self", "--sheet", str(tmp_path / "s.png")]) == 0
    assert "green" not in capsys.readouterr().out and (tmp_path / "s.png").is_file()
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "blue", "texts": ["it is closed"]}\n{"id": "x", "texts": ["a pier"]}\n')
    assert main(["knowledge", "add", kb, "--root", str(root), "--records", str(more)]) == 0
    assert "1 of which took the place" in capsys.readouterr().out
    assert main(["knowledge", "remove", kb, "x"]) == 0
    assert main(["knowledge", "info", kb]) == 0
    said = capsys.readouterr().out
    assert "version 3 of 1, 2, 3" in said and "store: files, 0." in said
    assert main(["knowledge", "search", kb, "--category", "Casino", "--text", "a"]) == 0
    assert "nothing was found." in capsys.readouterr().out
    for argv, message in (
        (["search", kb], "needs a picture or a text"),
        (["search", str(root), "--text", "a"], "no knowledge base"),
        (["remove", kb, "blu"], "Did you mean blue"),
        (["build", *words, *model], "rsvlm knowledge add"),
        (["build", *words[:-1], str(records), *model], "is a file, and a base is a folder"),
        (
            [
                "search",
                kb,
                "--image",
                str(root / "red.png"),
                "--text",
                "a",
                "--variant",
                "released",
            ],
            "is that of a task, and none is given",
        ),
        (["build", *words[:-1], kb + "2", *model, "--overlap", "99"], "--overlap 99"),
        (["build", *words[:-1], kb + "3", *model, "--store", "qdrant"], "localhost:6333/places"),
        (["info", "http://localhost:9/places"], "does not answer"),
    ):
        if argv[0] == "build" and argv[6] == kb:
            records.write_text('{"id": "other", "texts": ["b"]}\n')
        assert main(["knowledge", *argv]) == 1
        assert message in capsys.readouterr().err


def test_the_default_encoder_that_is_not_there_names_another(folder, tmp_path, capsys, monkeypatch):
    def away(*_, **__):
        raise UserError("it could not be fetched.")

    monkeypatch.setattr("rsvlm.inference.api.load", away)
    root, records = folder
    words = ["--root", str(root), "--records", str(records), "--out", str(tmp_path / "kb")]
    assert main(["knowledge", "build", *words]) == 1
    said = capsys.readouterr().err
    assert "could not be fetched" in said and "--model georsclip_vitb32 --ckpt RS5M" in said


def test_options_without_a_base_are_refused():
    plain = {"path": None, "alpha": 0.7, "k": 3, "lexical": False, "mmr": None, "prompt": "cited"}
    assert with_knowledge("a model", plain) == "a model"
    assert with_knowledge("a model", plain | {"context": "none"}) == "a model"
    for word, value in (("k", 5), ("context", "right"), ("lexical", True), ("variant", "released")):
        with pytest.raises(UserError, match=rf"knowledge.{word}={value}.*knowledge.path="):
            with_knowledge("a model", plain | {word: value})


def test_rswk(tmp_path, checkpoint, capsys):
    root, kb = tmp_path / "RSWK", str(tmp_path / "kb")
    made = ["--format", "rswk", "--out", str(root), "-n", "4", "--test", "2", "--size", "32"]
    assert main(["scenes", "export", *made]) == 0
    words = ["--source", "rswk", "--root", str(root), "--out", kb, "--model", "clip_tiny"]
    assert main(["knowledge", "build", *words, "--ckpt", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    assert "4 records, 4 pictures" in said and "none of the 16" in said
    picture = next((root / "images").glob("*(train).png"))
    assert main(["knowledge", "search", kb, "--image", str(picture), "-k", "1"]) == 0
    assert picture.stem in capsys.readouterr().out
