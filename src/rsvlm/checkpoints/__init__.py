"""Checkpoints in and out: resolve → read → detect → convert → check → load, and save, export."""

from rsvlm.checkpoints.average import average
from rsvlm.checkpoints.export import export
from rsvlm.checkpoints.fresh import added
from rsvlm.checkpoints.load import LoadReport, load
from rsvlm.checkpoints.save import check_packed, pack, unpack

__all__ = ["LoadReport", "added", "average", "check_packed", "export", "load", "pack", "unpack"]
