"""zoo:, hf://, paths, and what is none of them."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from rsvlm.checkpoints import hub, zoo
from rsvlm.checkpoints.resolve import resolve
from rsvlm.errors import UserError
from rsvlm.models.zoo import rows

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`cache(repo, files)`: a repository as the hub's client leaves it on disk; goes offline."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repo: str, files: dict[str, bytes], refs: tuple[str, ...] = ("main",)) -> Path:
        root = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        for ref in refs:
            (root / "refs").mkdir(parents=True, exist_ok=True)
            (root / "refs" / ref).write_text(COMMIT)
        for i, (name, content) in enumerate(files.items()):
            blob = root / "blobs" / f"{i:040x}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = root / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        return root / "snapshots" / COMMIT

    return put


def test_a_file_of_the_hub_from_the_cache(cache):
    root = cache("Zilun/GeoRSCLIP", {"ckpt/RS5M_ViT-B-32.pt": b"x", "README.md": b"y"})
    for revision in ("@main", f"@{COMMIT}", ""):
        found = resolve(f"hf://Zilun/GeoRSCLIP{revision}/ckpt/RS5M_ViT-B-32.pt")
        assert found.local() == root / "ckpt" / "RS5M_ViT-B-32.pt"
        assert found.row is zoo.row("georsclip_vitb32.rs5m", rows())
    assert resolve("zoo:georsclip_vitb32.rs5m").local().read_bytes() == b"x"


def test_a_repository_of_the_hub_from_the_cache(cache):
    root = cache(
        "a/b", {"config.json": b"{}", "model.safetensors": b"1", "pytorch_model.bin": b"2"}
    )
    assert resolve("hf://a/b@main").local() == root / "model.safetensors"
    assert resolve("hf://a/b").row is None
    both = cache("a/c", {"open_clip_model.safetensors": b"1", "model.safetensors": b"2"})
    assert resolve("hf://a/c").local() == both / "open_clip_model.safetensors"
    parts = {f"model-0000{i}-of-00002.safetensors": b"1" for i in (1, 2)}
    root = cache(
        "a/d", {"deep/model.safetensors.index.json": b"{}"} | {f"deep/{n}": b"1" for n in parts}
    )
    assert resolve("hf://a/d/deep").local() == root / "deep"
    cache("a/e", {"one.pt": b"1", "two.pt": b"2"})
    with pytest.raises(UserError, match=r"several files of weights.*one\.pt, two\.pt"):
        resolve("hf://a/e").local()
    cache("a/f", {"README.md": b"1"})
    with pytest.raises(UserError, match=r"no weights, only README\.md"):
        resolve("hf://a/f").local()


def test_what_is_not_in_the_cache_says_how_to_get_it(cache):
    with pytest.raises(UserError) as error:
        resolve("hf://a/b@v1/deep/x.pt").local()
    text = str(error.value)
    assert "hf download a/b deep/x.pt --revision v1 --local-dir weights" in text
    assert "in its place: weights/deep/x.pt" in text
    cache("a/b", {"deep/y.pt": b"1"}, refs=("v1",))
    with pytest.raises(UserError, match=r"no file deep/x\.pt.*Did you mean deep/y\.pt"):
        resolve("hf://a/b@v1/deep/x.pt").local()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'rsvlm\[hub\]'(.|\n)*hf download a/b x\.pt"):
        resolve("hf://a/b/x.pt").local()


def test_hf_home_and_offline_of_the_environment(tmp_path):
    """In a process of its own, where the client reads the environment for itself."""
    pytest.importorskip("huggingface_hub")
    root = tmp_path / "hub" / "models--a--b"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    (snapshot / "x.pt").write_bytes(b"1")
    code = "from rsvlm.checkpoints.hub import fetch, parse; print(fetch(parse('hf://a/b/x.pt')))"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(snapshot / "x.pt")


@pytest.mark.parametrize("uri", ["hf://a", "hf:///a/b", "hf://a/b@", "hf://a b/c"])
def test_malformed_hub_addresses(uri):
    with pytest.raises(UserError, match="hf://<org>/<repo>@<revision>/<path>"):
        resolve(uri)


def test_a_bare_repository_name_prints_both_forms():
    with pytest.raises(UserError, match=r"hf://Zilun/GeoRSCLIP@main .*\./Zilun/GeoRSCLIP"):
        resolve("Zilun/GeoRSCLIP")
    with pytest.raises(UserError, match=r"hf://Zilun/GeoRSCLIP@main/ckpt/RS5M_ViT-B-32\.pt "):
        resolve("Zilun/GeoRSCLIP/ckpt/RS5M_ViT-B-32.pt")


def test_paths(tmp_path, monkeypatch):
    file = tmp_path / "RS5M_ViT-B-32_RET-2.pt"
    file.write_bytes(b"1")
    assert resolve(str(file)).local() == file
    assert resolve(str(file)).row is zoo.row("georsclip_vitb32.ret2", rows())
    assert resolve(str(tmp_path)).local() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(f"~/{file.name}").local() == file
    with pytest.raises(UserError, match=r"no file or folder.*Did you mean RS5M_ViT-B-32_RET-2\.pt"):
        resolve(str(tmp_path / "RS5M_ViT-B-32_RET2.pt"))
    with pytest.raises(UserError, match=r"write zoo:georsclip_vitb32\.rs5m"):
        resolve("georsclip_vitb32.rs5m")
    with pytest.raises(UserError, match=r"curl -LO https://x\.org/a\.pt(.|\n)*in its place: a\.pt"):
        resolve("https://x.org/a.pt")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def test_an_https_row_is_downloaded_once(tmp_path, monkeypatch):
    """Over real HTTP, from a server on this machine."""
    served, kept = tmp_path / "served", tmp_path / "kept"
    served.mkdir()
    (served / "a.zip").write_bytes(b"zipped")
    monkeypatch.setenv("RSVLM_CACHE", str(kept))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    handler = lambda *args: _Quiet(*args, directory=str(served))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.zip"
        assert hub.download(url).read_bytes() == b"zipped"
        with pytest.raises(UserError, match=r"404(.|\n)*curl -LO .*/b\.zip"):
            hub.download(url.replace("a.zip", "b.zip"))
        server.shutdown()
    assert hub.download(url) == kept / "a.zip"  # the server is gone
    assert [path.name for path in kept.iterdir()] == ["a.zip"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        hub.download(url.replace("a.zip", "c.zip"))


def test_a_row_of_another_architecture_is_refused_before_any_download(ours):
    from rsvlm import checkpoints

    model = ours("vit")
    model.arch = "ViT-L-14"
    with pytest.raises(UserError, match=r"a ViT-B-32; the model is ViT-L-14\. Use model=skyclip"):
        checkpoints.load(model, "zoo:skyclip_vitb32.top50")
    assert isinstance(model.logit_scale, torch.nn.Parameter)
