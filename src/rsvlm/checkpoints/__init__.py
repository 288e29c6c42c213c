"""Checkpoints in and out: resolve → read → detect → convert → match → load, and save.

The engine knows no model: a model says itself which layouts it takes (`hooks`), and the zoo's rows
are handed in (`rsvlm.models.zoo`).
"""

from rsvlm.checkpoints.load import LoadReport, load, unpack
from rsvlm.checkpoints.new_parameters import adapter_parts
from rsvlm.checkpoints.save import check_packed, pack

__all__ = ["LoadReport", "adapter_parts", "check_packed", "load", "pack", "unpack"]
