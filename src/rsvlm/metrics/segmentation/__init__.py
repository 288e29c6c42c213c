"""Referring and reasoning segmentation: masks against masks under three published rules."""

from rsvlm.metrics.segmentation.metric import Segmentation
from rsvlm.metrics.segmentation.overlap import assign, overlap

__all__ = ["Segmentation", "assign", "overlap"]
