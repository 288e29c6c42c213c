"""Our smallest CLIP in open_clip, for runs that only show that a script works."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rsvlm.encoders.clip.architectures import sizes


def add_tiny(open_clip: Any) -> None:
    """Makes our smallest sizes known to open_clip, as `tiny`."""
    size = sizes("tiny")
    config = {
        "embed_dim": size.embed_dim,
        "vision_cfg": {
            "image_size": size.image_size,
            "layers": size.layers,
            "width": size.width,
            "head_width": size.width // size.heads,
            "patch_size": size.patch_size,
        },
        "text_cfg": {
            "context_length": size.context_length,
            "vocab_size": size.vocab_size,
            "width": size.text_width,
            "heads": size.text_heads,
            "layers": size.text_layers,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.json"
        file.write_text(json.dumps(config))
        open_clip.add_model_config(file)
