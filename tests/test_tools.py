"""`rsvlm export` of a run's folder, and the table of paper and measured values."""

import json

import pytest
import torch

from rsvlm.__main__ import main
from rsvlm.app import run
from rsvlm.cli.table import table
from rsvlm.inference import api

WORDS = [
    "experiment=clip_tiny_scenes",
    "model.stem=patch",  # open_clip and transformers know no other
    "trainer=cpu",
    "logger=none",
    "data.dataset.n=12",
    "data.cache=none",
    "data.batch_size=12",
    "data.workers=0",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "trainer.limit_test_batches=0",
    "callbacks.checkpoints.monitor=null",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from rsvlm.config.compose import compose

    out = tmp_path_factory.mktemp("run")
    run.fit(compose("train", WORDS), out, overrides=[])
    return out


@pytest.mark.parametrize("to", ["open_clip", "hf_clip"])
def test_a_runs_folder_is_exported_and_loads_there(folder, tmp_path, capsys, to):
    assert main(["export", "--ckpt", str(folder), "--to", to, "--out", str(tmp_path)]) == 0
    written = capsys.readouterr().out.split()
    assert {path.rpartition("/")[2] for path in written} == {p.name for p in tmp_path.iterdir()}
    model, _, tokenize = api.load_clip(folder / "last.ckpt")
    images, ids = torch.randn(2, 3, 64, 64), tokenize(["two ships", "a park"])
    with torch.no_grad():
        if to == "open_clip":
            import open_clip

            theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
            found = theirs.encode_image(images), theirs.encode_text(ids)
        else:
            transformers = pytest.importorskip("transformers")
            theirs = transformers.CLIPModel.from_pretrained(tmp_path).eval()
            # Older transformers give the features themselves.
            found = tuple(
                getattr(out, "pooler_output", out)
                for out in (
                    theirs.get_image_features(pixel_values=images),
                    theirs.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)),
                )
            )
        # Measured 1e-6: the libraries sum in another order.
        own = (model.encode_image(images), model.encode_text(ids))
        for mine, other in zip(own, found, strict=True):
            torch.testing.assert_close(other, mine, atol=1e-5, rtol=1e-5)


def test_what_is_no_run_is_one_clear_error(tmp_path, capsys):
    words = ["export", "--ckpt", str(tmp_path), "--to", "open_clip", "--out", str(tmp_path / "x")]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["exprot"]) == 1
    assert "Did you mean export" in capsys.readouterr().err


def test_the_table_shows_what_was_measured_as_finely_as_the_paper(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "expected.yaml").write_text(
        "paper: x\nrecipes: []\nrows:\n- recipe: eval_selo_airslt\n  model: georsclip_vitb32\n"
        "  ckpt: zoo:georsclip_vitb32.rs5m\n  source: released\n  metrics:\n"
        "    test/airslt/selo_jpeg/rmi: {paper: 0.744670, tol: 0.0005}\n"
        "    test/airslt/selo_jpeg/rsu: {paper: 0.755636, tol: 0.0005}\n"
        "    test/rsicd/remoteclip/mean_recall: {paper: 26.06, tol: 0.01}\n"
        "    test/rsitmd/remoteclip/mean_recall: {paper: 35.33, tol: 0.01}\n"
    )
    values = {
        "test/airslt/selo_jpeg/rmi": 0.74470,
        "test/airslt/selo_jpeg/rsu": 0.76,
        "test/rsicd/remoteclip/mean_recall": 26.064,
    }
    results = {
        "recipe": "selo_airslt",
        "model": "georsclip_vitb32",
        "checkpoint": "/data/RS5M_ViT-B-32.pt",
        "git_commit": "0123456789abcdef",
        "results": [{"name": name, "value": value} for name, value in values.items()],
    }
    (tmp_path / "results" / "a.json").write_text(json.dumps(results))
    # Another checkpoint of the same model is another row.
    other = dict.fromkeys(values, 0.1) | {"test/rsitmd/remoteclip/mean_recall": 51.81}
    rows = [{"name": name, "value": value} for name, value in other.items()]
    tuned = results | {"checkpoint": "zoo:georsclip_vitb32.ret2", "results": rows}
    (tmp_path / "results" / "b.json").write_text(json.dumps(tuned))
    lines = table(tmp_path).splitlines()[2:]
    cells = {line.split(" | ")[2]: line.split(" | ")[5] for line in lines}
    assert cells == {
        "test/airslt/selo_jpeg/rmi": "0.74470",
        "test/airslt/selo_jpeg/rsu": "0.760000 !",
        "test/rsicd/remoteclip/mean_recall": "26.06",
        "test/rsitmd/remoteclip/mean_recall": "-",
    }
    assert "012345678" in lines[0]
