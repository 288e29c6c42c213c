"""Peak memory and time of a contrastive loss, forward and backward, by the size of the batch.

    python benchmarks/chunked.py                        # 4,096 to 32,768 pairs, 512 dimensions
    python benchmarks/chunked.py --batch 8192 --chunk 512

Three forms of the same loss: open_clip's, which holds both matrices of logits, ours whole
(`loss.chunk=null`), and ours in blocks (`loss.chunk=...`). First all three give the same loss and
gradients on 512 pairs. Each row is a process of its own: what its resident memory rises by is
measured. Beside it stands what PyTorch's tensors take at most, counted operation by operation on
`meta`, where nothing is allocated; so a form that the machine cannot hold has that number, too, and
is not run (`-`). The features themselves, which every form needs, are not in the numbers.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from rsvlm.losses.contrastive import ClipLoss

FORMS = ("open_clip", "whole", "chunked")
SPARE = 2 * 2**30


def loss_of(form: str, chunk: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(images, texts, scale) to the loss."""
    if form == "open_clip":
        import open_clip

        return open_clip.ClipLoss()
    ours = ClipLoss(chunk=chunk if form == "chunked" else None)

    def loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
        outputs = {"image_features": images, "text_features": texts, "logit_scale": scale}
        return ours(outputs)["contrastive"]

    return loss


def features(batch: int, dim: int, device: str) -> list[Tensor]:
    """Images, texts and temperature, with gradients."""
    if device == "meta":
        made = [torch.empty(batch, dim, device=device) for _ in range(2)]
        return [t.requires_grad_() for t in [*made, torch.empty((), device=device)]]
    torch.manual_seed(0)
    made = [F.normalize(torch.randn(batch, dim), dim=-1) for _ in range(2)]
    return [t.requires_grad_() for t in [*made, torch.tensor(14.0)]]


def counted(form: str, batch: int, dim: int, chunk: int) -> int:
    """Most bytes that PyTorch's tensors take at one time, beyond the features."""
    from torch.distributed._tools.mem_tracker import MemTracker

    given = features(batch, dim, "meta")
    loss = loss_of(form, chunk)
    tracker = MemTracker()
    tracker.track_external(*given)
    with tracker:
        # The labels that open_clip makes follow the features' device.
        loss(*given).backward()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("meta")]["Total"]
    return peak - sum(t.nbytes for t in given)


def measured(form: str, batch: int, dim: int, chunk: int) -> dict[str, float]:
    """Rise of resident memory and seconds of one forward and backward pass; in a fresh process."""
    given = features(batch, dim, "cpu")
    loss = loss_of(form, chunk)
    small = features(64, dim, "cpu")
    loss(*small).backward()  # what a first call loads
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts anew
    start, used = time.perf_counter(), time.process_time()
    value = loss(*given)
    value.backward()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - used,
        "bytes": _status("VmHWM") - before,
        "loss": float(value),
    }


def _status(word: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(word + ":"))) * 1024


def available() -> int:
    """Bytes of memory that this machine has free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024


def compare(dim: int, chunk: int) -> None:
    """All forms give the same loss and gradients."""
    found = {}
    for form in FORMS:
        given = features(512, dim, "cpu")
        value = loss_of(form, min(chunk, 100))(*given)
        value.backward()
        found[form] = [value.detach(), *(t.grad for t in given)]
    worst = 0.0
    for form in FORMS[1:]:
        for ours, theirs in zip(found[form], found["open_clip"], strict=True):
            assert ours is not None and theirs is not None
            worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    print(f"512 pairs: loss {float(found['chunked'][0]):.6f}; largest difference {worst:.1e}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=FORMS, help="measure one form here; used by the script")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measured(args.one, args.batch[0], args.dim, args.chunk)))
        return
    compare(args.dim, args.chunk)
    print(f"{args.threads} threads, {platform.processor() or platform.machine()}, {args.dim} dim")
    print("| pairs | form | counted, MiB | measured, MiB | seconds | CPU s |\n" + "|---:" * 6 + "|")
    for batch in args.batch:
        for form in FORMS:
            need = counted(form, batch, args.dim, args.chunk)
            cells = [f"{batch:,}", form, f"{need / 2**20:,.0f}", "-", "-", "-"]
            if need + SPARE < available():
                command = [sys.executable, __file__, "--one", form, "--batch", str(batch)]
                command += ["--dim", str(args.dim), "--chunk", str(args.chunk)]
                command += ["--threads", str(args.threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                got = json.loads(done.stdout.splitlines()[-1])
                cells[3:] = [f"{got['bytes'] / 2**20:,.0f}", f"{got['seconds']:.1f}"]
                cells.append(f"{got['cpu']:.1f}")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
