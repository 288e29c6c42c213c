"""Visual question answering: normalised answers, by type of question."""

from rsvlm.metrics.vqa.metric import TYPES, VQA
from rsvlm.metrics.vqa.normalise import evalai, exact

__all__ = ["TYPES", "VQA", "evalai", "exact"]
