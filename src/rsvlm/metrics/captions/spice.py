"""SPICE by its reference program, where that and its parser are."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rsvlm.errors import UserError
from rsvlm.metrics.captions.java import INSTALL, LOCALE, jar, java

#: Names a folder with CoreNLP 3.6.0's two jars, which no package brings.
CORENLP = "RSVLM_CORENLP"
_JAR = "spice/spice-1.0.jar"
_PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_SOURCE = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"


def missing() -> str | None:
    """Why SPICE cannot run here and what to do; None where it can."""
    archive = jar(_JAR)
    if archive is None or java() is None:
        return f"SPICE needs its reference program and a Java runtime; {INSTALL}"
    folder = _parser_folder(archive)
    lacking = [name for name in _PARSER if not (folder / name).is_file()]
    if lacking:
        return (
            f"SPICE needs Stanford's parser (384 MB, not in any package): unpack "
            f"{' and '.join(_PARSER)} from {_SOURCE} into a folder and set {CORENLP} to it"
        )
    return None


def _parser_folder(archive: Path) -> Path:
    named = os.environ.get(CORENLP)
    return Path(named) if named else archive.parent / "lib"


def spice(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    memory: str = "8G",
) -> list[float]:
    """SPICE: F1 of the objects, attributes and relations that parsed captions name.

    Prediction and references become scene graphs; synonyms count as equal. The corpus score is the
    mean. `2 P R / (P + R)`. Range: 0 to 1. Higher is better. Anderson et al. (ECCV 2016), program
    1.0 of pycocoevalcap 1.2, run without its cache, which no Java after 15 can write. Protocol:
    coco. Used in: RS-GPT4V's caption tables.

    Args:
        predictions: tokens of N sentences, separated by spaces.
        references: for each its references, at least one.
        memory: most heap of the Java process.

    Returns:
        N scores; 0 where the program finds nothing to compare.

    Raises:
        UserError: it is not installed, or it failed; with its last words.
    """
    why = missing()
    program, archive = java(), jar(_JAR)
    if why or program is None or archive is None:
        raise UserError(why or f"SPICE cannot run; {INSTALL}")
    parts = [archive, *sorted((archive.parent / "lib").glob("*.jar"))]
    parts += [_parser_folder(archive) / name for name in _PARSER]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked.json"), Path(folder, "answered.json")
        cases = [
            {"image_id": number, "test": guess, "refs": list(refs)}
            for number, (guess, refs) in enumerate(zip(predictions, references, strict=True))
        ]
        asked.write_text(json.dumps(cases), "utf-8")
        command = [str(program), *LOCALE, f"-Xmx{memory}", "-cp", os.pathsep.join(map(str, parts))]
        command += ["edu.anu.spice.SpiceScorer", str(asked), "-out", str(answered), "-silent"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace"
        )
        if done.returncode or not answered.is_file():
            raise UserError(
                f"the SPICE program failed ({done.returncode}): {done.stderr.strip()[-500:]} It "
                f"needs {memory} of memory; Java 8 to 11 are the ones it was written for."
            )
        found = json.loads(answered.read_text("utf-8"))
    scores = {item["image_id"]: item["scores"]["All"]["f"] for item in found}
    absent = [number for number in range(len(cases)) if number not in scores]
    if absent:
        raise UserError(f"the SPICE program left out {len(absent)} sentences, first {absent[:3]}.")
    return [_number(scores[number]) for number in range(len(cases))]


def _number(value: float | str | None) -> float:
    score = math.nan if value is None else float(value)
    return 0.0 if math.isnan(score) else score
