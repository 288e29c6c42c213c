"""METEOR 1.5 by its reference program, kept running between calls."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError
from rsvlm.metrics.captions.java import INSTALL, LOCALE, jar, java

_JAR = "meteor/meteor-1.5.jar"
_BAR = "|||"


def missing() -> str | None:
    """Why METEOR cannot run here and what to do; None where it can."""
    if jar(_JAR) is None:
        return f"METEOR 1.5 needs its reference program; {INSTALL}"
    if java() is None:
        return f"METEOR 1.5 needs a Java runtime; {INSTALL}"
    return None


def of_sums(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """METEOR 1.5's score of summed statistics, as its program computes it for English.

    The 23 statistics of a sentence are its words and the reference's, the function words among
    both; for each of four matchers (form, stem, synonym, paraphrase) the content and the function
    words matched on each side; the pieces of the alignment and the words in them on each side.

    Args:
        sums: [..., 23].

    Returns:
        [...] scores, 0 to 1.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    content, function = (stages[..., k : k + 2] for k in (0, 2))
    weighed = [(weights[:, None] * one).sum(-2) for one in (content, function)]
    words, functions = sums[..., 0:2], sums[..., 2:4]
    matched = delta * weighed[0] + (1 - delta) * weighed[1]
    whole = delta * (words - functions) + (1 - delta) * functions
    pieces, inside = sums[..., 20], sums[..., 21:23]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(matched / whole, -1, 0)
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        parts = pieces / inside.mean(-1)
        score = mean * (1 - gamma * parts**beta)
    found: npt.NDArray[np.float64] = np.nan_to_num(score, nan=0.0)
    return found


class Meteor:
    """One process of the METEOR 1.5 program: English, normalised, its default parameters.

    It starts at the first sentence (the paraphrase table takes some seconds) and then answers line
    by line. Use `shared()` for the process that all metrics of this program share.

    Args:
        memory: most heap of the Java process.
    """

    def __init__(self, *, memory: str = "2G") -> None:
        self.memory = memory
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[float, list[float]]:
        """METEOR: words aligned by form, stem, synonym and paraphrase, with an order penalty.

        `(1 - penalty) * F`, where F weighs precision against recall of the aligned words and the
        penalty grows with the number of pieces that the alignment falls into; for each image the
        best reference counts. The corpus score comes from the sums of all statistics, so it is
        *not* the mean of the sentence scores. Range: 0 to 1. Higher is better. Denkowski and Lavie
        (WMT 2014), parameters of `-l en -norm`; as pycocoevalcap 1.2 calls it.

        Protocols: coco, token_ids. Used in: SkyEyeGPT's tables for UCM, Sydney and RSICD,
        VRSBench's caption table, and RSCaMa's table I for LEVIR-CC (token_ids).

        Args:
            predictions: tokens of N sentences, separated by spaces; empty ones score 0.
            references: for each its references, at least one.

        Returns:
            The corpus score and N sentence scores.

        Raises:
            UserError: the program is not installed, or it stopped; with its last words.
        """
        corpus, scores, _ = self.measure(predictions, references)
        return corpus, scores

    def measure(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[float, list[float], npt.NDArray[np.float64]]:
        """As `score`, and the [N, 23] statistics whose sums give the corpus score (`of_sums`)."""
        if not predictions:
            raise UserError("METEOR of no sentences has no value: give at least one prediction.")
        with self._lock:
            self._start()
            statistics = [
                self._ask(_score_line(guess, refs))
                for guess, refs in zip(predictions, references, strict=True)
            ]
            self._write(f"EVAL {_BAR} " + f" {_BAR} ".join(statistics))
            scores = [self._number() for _ in predictions]
            corpus = self._number()
        table = np.array([line.split() for line in statistics], np.float64)
        # Of a sentence that is its reference the program does not count the one piece.
        same = (table[:, 21:23] == table[:, :2]).all(1) & (table[:, 20] == 1)
        table[same, 20] = 0
        return corpus, scores, table

    def close(self) -> None:
        """Ends the process, if it is this program's own."""
        process, self._process = self._process, None
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    # The process ------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._process is not None and self._owner != os.getpid():
            # A fork has the parent's pipes; two writers would mix their sentences.
            self._process = None
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        why = missing()
        program, archive = java(), jar(_JAR)
        if why or program is None or archive is None:
            raise UserError(why or f"METEOR cannot run; {INSTALL}")
        if not self._owner:
            atexit.register(self.close)
        self._owner = os.getpid()
        # Its last words, for the error; a pipe that nobody reads would stop it.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115, by `close`
        command = [str(program), *LOCALE, f"-Xmx{self.memory}", "-jar", str(archive)]
        self._process = subprocess.Popen(
            [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=archive.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            env=_environment(program),
        )

    def _ask(self, line: str) -> str:
        self._write(line)
        return self._read()

    def _write(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed() from error

    def _read(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip():
            raise self._failed()
        return line.strip()

    def _number(self) -> float:
        line = self._read()
        with contextlib.suppress(ValueError):
            value = float(line)
            if math.isfinite(value):
                return value
        raise self._failed(f"it answered {line!r} in place of a score")

    def _failed(self, what: str = "it stopped") -> UserError:
        words = ""
        if self._errors is not None:
            self._errors.seek(0)
            words = self._errors.read().strip()[-500:]
        self.close()
        return UserError(
            f"the METEOR program failed: {what}. {words or 'It gave no reason.'} It needs "
            f"{self.memory} of memory; try fewer sentences at a time, or another Java."
        )


def _environment(program: Path) -> dict[str, str]:
    """Without the variables that make Java print lines of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")}
    return kept | {"PATH": os.pathsep.join([str(program.parent), kept.get("PATH", "")])}


def _score_line(guess: str, references: Sequence[str]) -> str:
    # Bars separate fields and line ends end the question: neither may come from a caption. The
    # published code takes two spaces of the prediction for one where a token fell out.
    fields = [" ".join(ref.replace(_BAR, "").splitlines()) for ref in references]
    fields.append(" ".join(guess.replace(_BAR, "").splitlines()).replace("  ", " "))
    return f" {_BAR} ".join(["SCORE", *fields])


_shared = Meteor()


def shared() -> Meteor:
    """The process of this program, started when it is first asked."""
    return _shared
