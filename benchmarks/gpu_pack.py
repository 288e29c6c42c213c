"""Packs what a GPU machine without network lacks: wheels and small copies of the real images.

    make gpu-pack                       # writes .gpu/ (ignored by git), 64 MiB at most

There, with `.gpu` carried along:

    bash benchmarks/gpu.sh              # sources .gpu/setup.sh itself
    source .gpu/setup.sh && python train.py experiment=clip_small_rsicd trainer=gpu logger=csv
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from PIL import Image

# Pure Python, and missing beside torch, lightning, timm and transformers there. antlr4 is a source
# package: pip builds its wheel.
WHEELS = (
    "hydra-core>=1.3.4,<1.4",
    "omegaconf>=2.3,<2.4",
    "antlr4-python3-runtime==4.9.3",
    "open_clip_torch>=3,<4",
    "ftfy",
    "wcwidth<0.3",  # later ones are compiled
    "webdataset>=1,<2",
    "braceexpand",
    "segment-anything",
    "peft>=0.17,<1",  # the other side of LLaVA's step
    "segment-anything>=1.0",
    "accelerate>=1,<2",
)
LIMIT = 64 * 2**20

SETUP = """\
# source .gpu/setup.sh: installs the wheels beside the machine's own packages, unpacks the images.
site=${TMPDIR:-/tmp}/rsvlm_site
data=${TMPDIR:-/tmp}/rsvlm_data
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \\
    --target "$site" "$here"/wheels/*.whl || return 1
mkdir -p "$data" && tar -xf "$here/data.tar.gz" -C "$data" || return 1
export PYTHONPATH="$here/../src:$site${PYTHONPATH:+:$PYTHONPATH}"
export RSVLM_DATA="$data"
export HYDRA_FULL_ERROR=1 PYTHONUNBUFFERED=1
"""


def small(path: Path, side: int, quality: int) -> bytes:
    """A JPEG of the picture with its shorter side at `side` pixels."""
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def pack(data: Path, out: Path, side: int, quality: int) -> int:
    """Writes `data.tar.gz` with the layout of RSVLM_DATA; returns its size in bytes."""
    target = out / "data.tar.gz"
    with tarfile.open(target, "w:gz", compresslevel=4) as tar:
        for folder in ("rsicd_160", "whu_rs19_224"):
            for path in sorted((data / folder).rglob("*")):
                name = str(path.relative_to(data))
                if path.suffix == ".jpg":
                    content = small(path, side, quality)
                elif path.suffix == ".json" or path.name == "classes.txt":
                    content = path.read_bytes()
                else:
                    continue
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return target.stat().st_size


def main() -> None:
    """Builds the folder and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".gpu"))
    parser.add_argument("--side", type=int, default=128, help="shorter side of the pictures, px")
    parser.add_argument("--quality", type=int, default=60, help="JPEG quality")
    args = parser.parse_args()
    data = Path(os.environ.get("RSVLM_DATA", ""))
    if not (data / "rsicd_160").is_dir():
        sys.exit("set RSVLM_DATA to the folder that holds rsicd_160 and whu_rs19_224")
    shutil.rmtree(args.out, ignore_errors=True)
    (args.out / "wheels").mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w"]
    subprocess.run([*command, str(args.out / "wheels"), *WHEELS], check=True)
    impure = [p.name for p in (args.out / "wheels").glob("*.whl") if "-none-any" not in p.name]
    if impure:
        sys.exit(f"not pure Python, so of no use on another machine: {', '.join(impure)}")
    size = pack(data, args.out, args.side, args.quality)
    (args.out / "setup.sh").write_text(SETUP)
    wheels = sum(p.stat().st_size for p in (args.out / "wheels").iterdir())
    whole = size + wheels + (args.out / "setup.sh").stat().st_size
    print(
        f"data {size / 2**20:.1f} MiB, wheels {wheels / 2**20:.1f} MiB in {args.out}: "
        f"{whole / 2**20:.1f} of {LIMIT / 2**20:.0f} MiB"
    )
    if whole > LIMIT:
        sys.exit("that is too much: lower --quality or --side")


if __name__ == "__main__":
    main()
