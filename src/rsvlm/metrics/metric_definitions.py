"""The metric words: what each counts, in which unit, and whether more is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricDefinition:
    """What a metric word means.

    Attributes:
        text: one line for the report.
        task: what is evaluated; a protocol word is read within its task.
        unit: `%` for values in 0..100, empty for plain numbers.
        higher: whether more is better.
    """

    text: str
    task: str
    unit: str = "%"
    higher: bool = True


def _recalls() -> dict[str, MetricDefinition]:
    ways = {"i2t": "images whose own text", "t2i": "texts whose own image"}
    words = {
        f"{way}_r{k}": MetricDefinition(f"{what} is among the top {k}", "retrieval")
        for way, what in ways.items()
        for k in (1, 5, 10, 100)
    }
    for way in ways:
        words[f"{way}_mean_recall"] = MetricDefinition(
            f"mean of {way}_r1, {way}_r5 and {way}_r10", "retrieval"
        )
    words["mean_recall"] = MetricDefinition(
        "mean of the recalls at 1, 5 and 10 in both directions", "retrieval"
    )
    return words


def _change() -> dict[str, MetricDefinition]:
    words = {}
    for part, pairs in (("change", "pairs with"), ("no_change", "pairs without")):
        for word in ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "s_m"):
            words[f"{part}_{word}"] = MetricDefinition(
                f"{word} on the {pairs} a change", "captions"
            )
    for name in ("road", "building", "vegetation", "water", "ground", "playground"):
        for word in ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "s_m"):
            words[f"change_{name}_{word}"] = MetricDefinition(
                f"{word} on changed pairs whose references name the class {name}", "captions"
            )
    flags = {
        "change_accuracy": "pairs told right, changed or not",
        "change_precision": "pairs called changed that are",
        "change_recall": "changed pairs that are called so",
        "change_f1": "harmonic mean of change_precision and change_recall",
        "change_f05": "the same, precision counting twice as much",
        "no_change_precision": "pairs called unchanged that are",
        "no_change_recall": "unchanged pairs that are called so",
    }
    words |= {name: MetricDefinition(text, "change_flags") for name, text in flags.items()}
    words["change_unparsable"] = MetricDefinition(
        "answers without yes or no", "change_flags", higher=False
    )
    for thing in ("road", "building"):
        for word, text in (("mae", "mean error"), ("rmse", "root of the mean squared error")):
            name = f"{thing}_{word}"
            words[name] = MetricDefinition(
                f"{text} of changed {thing}s", "change_counts", "", False
            )
        places = {
            "precision": "named cells that have changed",
            "recall": "changed cells that are named",
            "f1": "harmonic mean of the two, over all cells",
            "jaccard": "mean over pairs of common cells by cells named or changed",
            "subset_accuracy": "pairs whose cells are all told right",
        }
        for word, text in places.items():
            words[f"{thing}_loc_{word}"] = MetricDefinition(f"{thing}s: {text}", "change_locations")
        words[f"{thing}_loc_hamming"] = MetricDefinition(
            f"{thing}s: cells told wrong", "change_locations", higher=False
        )
    for task, word in (("change_counts", "count"), ("change_locations", "loc")):
        words[f"{word}_unparsable"] = MetricDefinition(
            "answers that cannot be read", task, higher=False
        )
    return words


def _answers() -> dict[str, MetricDefinition]:
    kinds = (
        *("presence", "count", "comp", "rural_urban", "area", "yes_no", "number", "other"),
        *("simple_counting", "complex_counting", "condition_recognition"),
        *("equal", "scene", "colour", "place"),
    )
    return {
        "oa": MetricDefinition("questions answered right", "vqa"),
        "aa": MetricDefinition("mean over question types of the type's own accuracy", "vqa"),
        "vqa_empty": MetricDefinition("answers without a word, counted wrong", "vqa", higher=False),
        "vqa_unparsable": MetricDefinition(
            "answers without yes or no, or without a number, where that is asked; empty ones",
            "vqa",
            higher=False,
        ),
        **{
            f"acc_{kind}": MetricDefinition(f"{kind} questions answered right", "vqa")
            for kind in kinds
        },
    }


def _regions() -> dict[str, MetricDefinition]:
    shares = (50, 60, 70, 80, 90)
    sizes = {
        "small": "smaller than 32 x 32 px",
        "medium": "from 32 x 32 to 96 x 96 px",
        "large": "of 96 x 96 px and more",
    }
    by_size = {
        "acc50": ("boxes with an IoU of 0.5", "grounding"),
        "box_miou": ("mean IoU of the boxes", "grounding"),
        "point_acc": ("points inside of the true box", "pointing"),
        "det_recall": ("true boxes that are found, IoU 0.5", "detection"),
        "miou": ("mean IoU of the masks", "segmentation"),
        "giou": ("mean IoU of the masks, two empty ones counting 1", "segmentation"),
        "p50": ("masks with an IoU of 0.5", "segmentation"),
    }
    return {
        **{
            f"{word}_{size}": MetricDefinition(f"{text}; objects {which}", task)
            for word, (text, task) in by_size.items()
            for size, which in sizes.items()
        },
        **{
            f"acc{s}": MetricDefinition(f"boxes with an IoU of 0.{s // 10}", "grounding")
            for s in shares
        },
        "box_miou": MetricDefinition("mean IoU of the boxes", "grounding"),
        "box_ciou": MetricDefinition("intersections of all boxes by their unions", "grounding"),
        "box_unparsable": MetricDefinition(
            "answers without a box, counted wrong", "grounding", higher=False
        ),
        "point_acc": MetricDefinition("points inside of the true box", "pointing"),
        "point_unparsable": MetricDefinition(
            "answers without a point, counted wrong", "pointing", higher=False
        ),
        "det_precision": MetricDefinition("boxes told that are right, IoU 0.5", "detection"),
        "det_recall": MetricDefinition("true boxes that are found, IoU 0.5", "detection"),
        "det_f1": MetricDefinition("harmonic mean of det_precision and det_recall", "detection"),
        "det_miou": MetricDefinition(
            "mean IoU of paired boxes, those left over counting 0", "detection"
        ),
        "det_count": MetricDefinition("answers with the right number of boxes", "detection"),
        "det_unparsable": MetricDefinition("answers without a box", "detection", higher=False),
        "named": MetricDefinition("boxes whose object is named", "naming"),
        "named_empty": MetricDefinition(
            "answers without a word, counted wrong", "naming", higher=False
        ),
        "named_mean": MetricDefinition("mean over classes of the class's own share", "naming"),
        "miou": MetricDefinition("mean IoU of the masks", "segmentation"),
        "oiou": MetricDefinition("intersections of all masks by their unions", "segmentation"),
        "giou": MetricDefinition(
            "mean IoU of the masks, two empty ones counting 1", "segmentation"
        ),
        "ciou": MetricDefinition("intersections of all masks by their unions", "segmentation"),
        **{
            f"p{s}": MetricDefinition(f"masks with an IoU of 0.{s // 10}", "segmentation")
            for s in shares
        },
        "seg_no_mask": MetricDefinition(
            "questions about something that were answered without a mask",
            "segmentation",
            higher=False,
        ),
        "seg_extra_mask": MetricDefinition(
            "questions about what is not there that were answered with a mask",
            "segmentation",
            higher=False,
        ),
    }


def _context() -> dict[str, MetricDefinition]:
    words = {
        "class_match": "answers equal to the class",
        "class_match_listed": "of the classes on the list, answers equal to the class",
        "class_match_mean": "mean over classes of the class's own share of equal answers",
    }
    found = {word: MetricDefinition(text, "class_answers") for word, text in words.items()}
    less = {
        "class_answer_off_list": "answers that are none of the listed classes",
        "class_label_off_list": "true classes that are none of the listed ones",
        "class_empty": "answers without a word, counted wrong",
    }
    found |= {w: MetricDefinition(text, "class_answers", higher=False) for w, text in less.items()}
    words = {
        "context_known": "questions on whose place the base holds a record",
        "context_recall": "of those, the record is among the passages that were given",
        "context_r1": "of those, the record is the first passage's",
        "has_answer": "facts of the true answer that stand in the passages",
        "answer_support": "facts of the model's answer that stand in the passages",
    }
    found |= {word: MetricDefinition(text, "knowledge") for word, text in words.items()}
    less = {
        "context_none": "questions asked without a passage",
        "context_misled": "wrong answers that repeat a passage of another place, by all questions",
    }
    return found | {
        w: MetricDefinition(text, "knowledge", higher=False) for w, text in less.items()
    }


#: Words of an evaluation: `<stage>/<data set>/<protocol>/<word>`.
METRICS: dict[str, MetricDefinition] = {
    **_recalls(),
    "top1": MetricDefinition("samples given their own class", "classification"),
    **{
        f"top{k}": MetricDefinition(f"samples whose class is among the {k} best", "classification")
        for k in range(2, 11)
    },
    "mean_per_class": MetricDefinition(
        "mean over classes of the class's own accuracy", "classification"
    ),
    "f1": MetricDefinition("F1 at the best threshold", "classification"),
    "precision": MetricDefinition("precision at the threshold of the best F1", "classification"),
    "recall": MetricDefinition("recall at the threshold of the best F1", "classification"),
    "rsu": MetricDefinition(
        "salient area proportion: probability inside the annotation", "selo", unit=""
    ),
    "ras": MetricDefinition(
        "attention shift: offset of the attention centres", "selo", unit="", higher=False
    ),
    "rda": MetricDefinition("discrete attention: one centre per region is best", "selo", unit=""),
    "rmi": MetricDefinition("0.4 Rsu + 0.35 (1 - Ras) + 0.25 Rda", "selo", unit=""),
    **{
        f"bleu{n}": MetricDefinition(f"n-grams up to {n} words found in a reference", "captions")
        for n in (1, 2, 3, 4)
    },
    "meteor": MetricDefinition("words aligned by form, stem and synonym", "captions"),
    "rouge_1": MetricDefinition("words in common with a reference", "captions"),
    "rouge_l": MetricDefinition("longest common subsequence with a reference", "captions"),
    "cider": MetricDefinition("CIDEr-D: n-grams in common that few images share", "captions"),
    "spice": MetricDefinition("objects, attributes and relations in common", "captions"),
    "spider": MetricDefinition("mean of SPICE and CIDEr-D", "captions"),
    "caption_empty": MetricDefinition("answers without a word", "captions", higher=False),
    "s_m": MetricDefinition("S*m: mean of BLEU-4, METEOR, ROUGE-L and CIDEr-D", "captions"),
    **_change(),
    **_answers(),
    **_regions(),
    **_context(),
    "clipscore": MetricDefinition("cosine of image and caption", "clipscore"),
    "refclipscore": MetricDefinition(
        "harmonic mean of clipscore and the best reference", "clipscore"
    ),
    "judged": MetricDefinition("answers to open questions by a judge's verdicts", "judge"),
    "judged_empty": MetricDefinition("answers without a word, worth 0", "judge", higher=False),
    "judged_unparsable": MetricDefinition(
        "verdicts of a language model that cannot be read, worth 0", "judge", higher=False
    ),
    "judged_mean": MetricDefinition(
        "mean over question types of the type's own mean verdict", "judge"
    ),
    "judge": MetricDefinition("verdict of a language model on caption and references", "judge"),
}
