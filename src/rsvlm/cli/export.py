"""`python -m rsvlm export --ckpt <run or file> --to <format> --out <folder>`.

CLIPs go to `open_clip` and `hf_clip`; LLaVA to `llava_hf` and models of transformers to
`transformers`, LoRA folded in; LoRA of a language model to `peft`; RS-CapRet to `fromage`;
SkyEyeGPT to `minigptv2`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.cli import checkpoint_of


def main(argv: list[str]) -> None:
    """Loads a model and writes it in another library's layout."""
    from rsvlm.checkpoints.export import FORMATS, OTHERS

    parser = argparse.ArgumentParser(
        prog="python -m rsvlm export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ckpt", required=True, help="a run's folder, a file, zoo:… or hf://…")
    parser.add_argument("--to", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--model", help="model option of a file that is not a run's")
    parser.add_argument("--tokenizer", help="its language model's tokenizer, where it is no run's")
    args = parser.parse_args(argv)

    from rsvlm import api
    from rsvlm.checkpoints import export
    from rsvlm.checkpoints.build import restore

    source = checkpoint_of(args.ckpt)
    if args.to in OTHERS:
        model = restore(source, args.model, tokenizer=args.tokenizer)
    else:
        model, _, _ = api.load(args.model, source)
    for path in export(model, args.to, args.out):
        print(path)
