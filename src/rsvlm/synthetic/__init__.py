"""The generated world: aerial scenes, described, drawn, worded."""

from rsvlm.synthetic.dataset import PARTS, RANGES, Scenes

__all__ = ["PARTS", "RANGES", "Scenes"]
