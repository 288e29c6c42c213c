"""`rsvlm export --ckpt <run or file> --to <format> --out <folder>`.

CLIPs go to `open_clip` and `hf_clip`; LLaVA to `llava_hf` and models of transformers to
`transformers`, LoRA folded in; LoRA of a language model to `peft`; RS-CapRet to `fromage`;
SkyEyeGPT to `minigptv2`.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Loads a model and writes it in another library's layout."""
    from rsvlm.export.formats import FORMATS, OTHERS

    parser = argparse.ArgumentParser(
        prog="rsvlm export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ckpt", required=True, help="a run's folder, a file, zoo:… or hf://…")
    parser.add_argument("--to", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--model", help="model option of a file that is not a run's")
    parser.add_argument("--tokenizer", help="its language model's tokenizer, where it is no run's")
    args = parser.parse_args(argv)

    from rsvlm.export.formats import export
    from rsvlm.inference.api import load

    words = []
    if args.model and args.to in OTHERS:
        words = ["model.tuning=frozen"]  # a published checkpoint is written without LoRA
    if args.tokenizer:
        words.append(f"model.lm.tokenizer={args.tokenizer}")
    model = load(args.model, args.ckpt, overrides=words) if args.model else load(args.ckpt)
    for path in export(model, args.to, args.out):
        print(path)
