"""`rsvlm index --model <option> --ckpt <checkpoint> --gallery <folder> --out <file>`.

Encodes a folder of pictures once; `predict.py gallery=<file>` then looks through the index. Words
behind the options change the model, as for predict.py: model.lm.weights=<folder>.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.errors import UserError


def main(argv: list[str]) -> None:
    """Builds the model, encodes the pictures and writes the index."""
    parser = argparse.ArgumentParser(prog="rsvlm index", description=__doc__)
    parser.add_argument("--model", help="a model option: a CLIP, or rscapret; a run brings its own")
    parser.add_argument("--ckpt", required=True, help="a run's folder, a file, zoo:… or hf://…")
    parser.add_argument("--gallery", required=True, type=Path, help="folder of pictures")
    parser.add_argument("--out", required=True, type=Path, help="the index, .safetensors")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures encoded at a time")
    parser.add_argument("word", nargs="*", help="key=value, as after predict.py")
    args = parser.parse_args(argv)
    if args.out.suffix != ".safetensors":
        raise UserError(f"--out {args.out}: an index is a .safetensors file.")
    if args.batch_size < 1:
        raise UserError("--batch-size is at least 1.")
    if not args.gallery.is_dir():
        raise UserError(f"--gallery {args.gallery} is no folder of pictures.")

    from rsvlm.inference.api import load
    from rsvlm.models.protocols import is_image_text_encoder
    from rsvlm.retrieval.gallery import Gallery

    if args.model:
        model = load(args.model, args.ckpt, overrides=args.word)
    else:
        model = load(args.ckpt, overrides=args.word)
    if not is_image_text_encoder(model):
        raise UserError(
            f"a {type(model).__name__} finds no pictures: an index needs a CLIP or a model with a "
            "space of features (rscapret)."
        )
    found = Gallery.of(model, args.gallery.resolve(), batch_size=args.batch_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found.save(args.out)
    for reason in found.broken:
        print(f"left out: {reason}")
    print(f"{len(found.names)} pictures, {found.features.shape[1]} numbers each")
    print(f"wrote {args.out}")
