"""The generated world: aerial scenes, described, drawn, worded."""

from rsvlm.data.scenes.dataset import PARTS, RANGES, Scenes

__all__ = ["PARTS", "RANGES", "Scenes"]
