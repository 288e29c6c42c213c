"""Image captions against references: BLEU, ROUGE-L, CIDEr-D, METEOR, SPICE, CLIPScore, judges."""

from rsvlm.metrics.captions.bleu import bleu
from rsvlm.metrics.captions.cider import cider_d
from rsvlm.metrics.captions.clipscore import clip_score, ref_clip_score, score_captions
from rsvlm.metrics.captions.judge import clair, judge_captions
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.captions.protocols import Scores, score
from rsvlm.metrics.captions.ptb import tokenize
from rsvlm.metrics.captions.rouge import rouge_l

__all__ = [
    "Captions",
    "Scores",
    "bleu",
    "cider_d",
    "clair",
    "clip_score",
    "judge_captions",
    "ref_clip_score",
    "rouge_l",
    "score",
    "score_captions",
    "tokenize",
]
