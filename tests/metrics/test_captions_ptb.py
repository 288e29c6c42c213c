"""The PTB tokenizer against Stanford's jar: frozen outputs without Java, the jar itself with it."""

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from rsvlm.metrics.captions import java, ptb

DATA = os.environ.get("RSVLM_DATA")
JAR = java.jar("tokenizer/stanford-corenlp-3.4.1.jar")


def words(text):
    return text.split()


# Our own strings, and what the jar made of them as pycocoevalcap runs it.
CASES = [
    ("A plane is parked near the terminal .", "a plane is parked near the terminal"),
    (
        "Two planes, one white and one red; both are small.",
        "two planes one white and one red both are small",
    ),
    (
        "There are many buildings (some with red roofs) near the river.",
        "there are many buildings -lrb- some with red roofs -rrb- near the river",
    ),
    (
        "the court [left] and {right} <middle>",
        "the court -lsb- left -rsb- and -lcb- right -rcb- <middle>",
    ),
    ("It's the airport's runway, isn't it?", "it 's the airport 's runway is n't it"),
    ("They can't, won't and cannot be seen.", "they ca n't wo n't and can not be seen"),
    (
        "We're gonna see what I'd call a well-known mother-in-law's house.",
        "we 're gon na see what i 'd call a well-known mother-in-law 's house",
    ),
    (
        "Mr. Smith lives on Baker St. near Oak Ave. in Calif. and Mass. or mass.",
        "mr. smith lives on baker st. near oak ave. in calif. and mass. or mass",
    ),
    (
        "Dr. No vs. Prof. X, etc., e.g. here, i.e. there.",
        "dr. no vs. prof. x etc. e.g. here i.e. there",
    ),
    (
        "the building of Acme Inc. and Foo Co. Ltd. has 3.5 floors.",
        "the building of acme inc. and foo co. ltd. has 3.5 floors",
    ),
    (
        "about 1,000.50 cars, 10% of 2,000, at 12:30 on 12/31/2001",
        "about 1,000.50 cars 10 % of 2,000 at 12:30 on 12/31/2001",
    ),
    (
        "call (123) 456-7890 or 1.800.555.1234 now",
        "call -lrb-123-rrb-\u00a0456-7890 or 1.800.555.1234 now",
    ),
    (
        "1 1/2 acres, 1/2 mile, 22/7 and ½ or ¼ of it",
        "1\u00a01/2 acres 1/2 mile 22/7 and 1/2 or 1/4 of it",
    ),
    ("a 3-m-wide, 20th century, 10x10 grid of 5km", "a 3-m-wide 20th century 10x10 grid of 5km"),
    (
        "fig. 3 and fig. three; no. 5 and no. five; pp. 7-9",
        "fig. 3 and fig three no. 5 and no five pp. 7-9",
    ),
    (
        "wow!! really?! yes... no.... well ----- end -- dash --- dash – dash — dash",
        "wow !! really ?! yes no well ----- end dash dash dash dash",
    ),
    (
        "“quoted” ‘single’ «french» \"plain\" 'simple' ``latex''",
        "quoted single french plain simple latex",
    ),
    (
        "'twas the '80s and '98 'til 'n' o'clock y'all",
        "'t was the '80s and '98 'til 'n' o'clock y' all",
    ),
    ("AT&T, R&D, S&P-500, C++ and C#", "at&t r&d s&p-500 c++ and c#"),
    ("a/b and/or red/green/blue a/b/c/d", "a/b and/or red/green/blue a/b/c / d"),
    (
        "foo_bar x-y image.png data.tar.gz, see www.foo.com/bar.html or http://a.b/c?d=1.",
        "foo_bar x-y image.png data.tar.gz see www.foo.com/bar.html or http://a.b/c?d=1",
    ),
    ("mail me@x.com or <me@x.com> @user #tag", "mail me@x.com or <me@x.com> @user #tag"),
    ("trees,cars and trees,red-roof . end.Begin", "trees cars and trees,red-roof end.begin"),
    ("U.S. and U.S.A. non-U.S. U.S.-based A.B.C", "u.s. and u.s.a. non-u.s. u.s.-based a.b.c"),
    (":) :-( =) ;-) ^_^ (x_x) <3", ":-rrb- :--lrb- =-rrb- ;--rrb- ^_^ -lrb-x_x-rrb- < 3"),
    ("-LRB- x -RRB- -lrb- y -lsb-", "-lrb- x -rrb- -lrb- y -lsb-"),
    (
        "&lt;b&gt; &amp; &quot;x&quot; &nbsp; &mdash; &eacute;t&eacute; &#39; &copy;",
        "< b > & x &eacute;t&eacute; &#39; & copy",
    ),
    (
        "<a href='x y'>link</a> <br/> <!-- no -->",
        "<a\u00a0href='x\u00a0y'> link </a> <br/> <!--\u00a0no\u00a0-->",
    ),
    ("$5, US$6, €7, £8, ¥9, ¢1 and #2", "$ 5 us$ 6 $ 7 # 8 ¥ 9 cents 1 and # 2"),
    ("10² m², x³, 5°C, ×, ÷, •, …, ©", "10 ² m ² x ³ 5 ° c × ÷ • ©"),
    ("naïve café in Zürich, 北京 機場 аэропорт", "naïve café in zürich 北京 機場 аэропорт"),
    ("soft\u00adhyphen, a\u00a0b, c\u2003d, e\u200bf", "softhyphen a b c d e f"),
    ("emoji \U0001f600 here\U0001f600too", "emoji here too"),
    ("a b. c d.", "a b. c d."),
    ("plot B. and plot c.", "plot b. and plot c."),
    ("the roof a.", "the roof a."),
    ("+7 -5 --5 +-5 1e-5 .5 5. 5.5.5", "+7 -5 5 + -5 1e-5 .5 5 5.5.5"),
    (
        "* ** *** \\* \\/ \\ | ~ = == + ++ % & ^ _ __ @@ ##",
        "* ** *** \\* \\ / \\ | ~ = = = + + + % & ^ _ __ @@ ##",
    ),
    ("pty. ltd. ptY. Pty. ppts. Cos. Ptes.", "pty. ltd. pty pty. ppts cos. ptes."),
    (
        "Az. az. Ark. ark. Del. del. Ill. ill. La. la. Miss. miss. Pa. pa. Tex. tex. Wash. wash.",
        "az. az ark. ark del. del ill. ill la. la miss. miss pa. pa tex. tex wash. wash",
    ),
    ("Jan. Feb. May. June. Sept. Mon. Sun. Thurs.", "jan. feb. may june sept. mon. sun thurs."),
    ("Yahoo! Yahoo!s what?no", "yahoo yahoo!s what?no"),
    ("he said:\"go\"and 'go'", "he said go and go"),
    (
        "rock'n'roll d'être l'eau j'ai Shi'ite O'Neil ma'am c'mon C'est ol' cont'd. nor'easter",
        "rock 'n' roll d'être l'eau j' ai shi'ite o'neil ma'am c'mon c'est ol' cont'd. nor'easter",
    ),
    (
        "Ph.D. Ed.D. a.k.a. a.m. p.m. vs v. cf. al. seq.",
        "ph.d. ed.d. a.k.a. a.m. p.m. vs v. cf. al. seq.",
    ),
    (
        "gonna gotta wanna gimme lemme Gonna dunno",
        "gon na got ta wan na gim me lem me gon na dunno",
    ),
    ("x:y a:b 1:2 a;b a!b a?b", "x y a b 1:2 a b a!b a?b"),
    ("(a)(b)[c]{d}<e>", "-lrb- a -rrb- -lrb- b -rrb- -lsb- c -rsb- -lcb- d -rcb- <e>"),
    ("''' '' ' ` `` ´ \" \"\"", "´"),
    ("n't don'tn't 's 'S 'll", "n't do n'tn t 's 's 'll"),
]

PIECES = words("""
a b I A The There they an in It Mr. mrs. Dr. St. st. Ave. etc. etc e.g. i.e. U.S. U.S u.k. a.m.
p.m. No. nos. fig. Figs. approx. Inc. Co. corp. Ltd. pty. ptY. vs. Jan. sept. Mon. Calif. mass.
Mass. ill. Ill. pa. Pa. tex. Tex. Ph.D. a.k.a. Jr. blvd. sq. ft. Mt. ca. pp. art. op. bldg. Wm.
MFG. Mfg. dept. al. est. non-U.S. U.S.-U.K. p. T. Z. cannot can't CAN'T don't it's he'll we've
I'm dogs' dog's o'clock O'Neil 'tis 'twas 'em 'till 'cause 'n' y'all l'eau c'mon C'est Shi'ite
gonna wanna gotta n't don’t ‘plot’ “court” «gate» cont'd. nor'easter ol' '98 '80s 's 'S. 'll 0 1
5 10 12 42 100 1000 1,000 1,000.5 3.14 .5 -5 +7 -3.2 1/2 22/7 1-1/2 1999 2000s 90's 10% $5 US$5
#1 # 1st 20th 3m 3-m 10x10 5km 12:30 12/31/2001 01-02-2003 555-1234 (123) 456-7890
1.800.555.1234 +1 1e-5 ½ 1½ 10² 5°C ( ) [ ] { } < > << >> <= (a) [b] {c} <b> </b> <br/> -LRB-
-rrb- :) :-) ;) :D :( =) <3 ^_^ x_x -_- (^_^) (xx) . .. ... .... ..... , ; : ? ! ?! !! ??? - --
--- ---- ----- – — / \\ \\/ | & && &amp; &lt; &gt; &quot; &apos; &nbsp; &mdash; &eacute; &#39; '
'' ''' " `` ` ´ * ** \\* @ @@ @user #tag _ __ ^ ~ = == + % $ € £ ¥ § © • … ¡ × ÷ and/or a/b
a/b/c/d co-ed roof-top roof- -roof well-known mother-in-law anti- pro- S&P-500 AT&T R&D C++ c#
x-y foo_bar image.png data.tar.gz a.h www.foo.com http://a.b/c foo.com a.org me@x.com <me@x.com>
Yahoo! end.Begin trees,cars trees,red-roof 3.5-inch U.S.-based A.B.C. building roof tree near é
naïve Zürich straße café 北京 機場 аэропорт soft\u00adhyphen \u200b \U0001f600
""")
ALPHABETS = (
    "ab .,'-",
    "aA1 .,-()",
    "'`\"nts a",
    "0123 -./,()$",
    "<>&;ltamp ='\"a/",
    "a.A. U.S",
    "x_-^=~.<>()' ",
    "@.#_com a",
    "!?. a:;)(DP",
    "etc. Mr. \t",
    "".join(map(chr, range(32, 127))),
)


def strings(seed, number=250):
    """Punctuation, abbreviations, numbers and brackets, thrown together; the same on any Python."""
    draw = random.Random(seed).random

    def pick(things):
        return things[int(draw() * len(things))]

    def one():
        kind = int(draw() * 4)
        if kind == 0:
            alphabet = pick(ALPHABETS)
            return "".join(pick(alphabet) for _ in range(1 + int(draw() * 18)))
        if kind == 1:
            return " ".join(pick(PIECES) for _ in range(1 + int(draw() * 8)))
        if kind == 2:
            glue = ("", "", " ", " ", ". ", ",", ", ")
            return "".join(pick(PIECES) + pick(glue) for _ in range(1 + int(draw() * 7)))
        words = " ".join(
            pick(("roof", "tree", "planes", "is", "near")) if draw() < 0.5 else pick(PIECES)
            for _ in range(3 + int(draw() * 7))
        )
        return pick(("the ", "The ", "A ")) + words + pick((" .", ".", "", "!", " etc.", " B."))

    return [one() for _ in range(number)]


# SHA-256 of the jar's lines for `strings(0)` to `strings(19)`: 5,000 in all.
DIGESTS = words("""
41e62fcb2201 4f35a5737b9d de6bad91cde7 73175b6327fe d650946a3832 b140d3a536cd fdeb6f26a0b7
ac5ee511d3a2 7a84013e9425 6b7796e92caa 3a79648150b2 c6cc2a3e1596 91298007335f 54cfbf469c81
ebe1fe358017 83da38dedca8 decc64dc7a20 db34e6dccbc7 db91cf3e0441 9625ea20778e
""")


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


needs_jar = pytest.mark.skipif(
    JAR is None or java.java() is None, reason=f"the jar is not here; {java.INSTALL}"
)


def by_jar(lines, folder):
    """pycocoevalcap's way: one file, one caption per line, and its list of punctuation."""
    file = folder / "captions.txt"
    file.write_bytes("\n".join(line.replace("\n", " ") for line in lines).encode())
    command = [java.java(), *java.LOCALE, "-cp", JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", file], capture_output=True, check=True
    )
    out = done.stdout.decode().split("\n")
    return [" ".join(w for w in o.rstrip().split(" ") if w not in ptb.PUNCTUATION) for o in out]


def differences(lines, ours, theirs):
    assert len(ours) == len(lines)
    rows = zip(lines, ours, theirs, strict=False)
    return [row for row in rows if row[1] != row[2]]


@pytest.mark.parametrize(("caption", "tokens"), CASES)
def test_single_captions(caption, tokens):
    # The jar read each of them with a line behind it that begins no sentence.
    assert ptb.tokenize([caption, "x"])[0] == tokens


@pytest.mark.parametrize("seed", range(20))
def test_5000_generated_strings_as_the_jar_had_them(seed):
    assert len(DIGESTS) * len(strings(seed)) == 5000
    assert digest(ptb.tokenize(strings(seed))) == DIGESTS[seed]


@needs_jar
def test_generated_strings_by_the_jar(tmp_path):
    lines = [line for seed in range(100, 120) for line in strings(seed)]
    assert len(lines) == 5000
    assert not differences(lines, ptb.tokenize(lines), by_jar(lines, tmp_path))


def sentences(value, keys):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from sentences(part, keys)
    elif isinstance(value, dict):
        for key in keys & value.keys():
            yield from sentences(value[key], keys)


@needs_jar
@pytest.mark.skipif(not DATA, reason="RSVLM_DATA is not set")
def test_every_caption_of_the_real_data_by_the_jar(tmp_path):
    keys = {"images", "sentences", "raw"}
    lines = []
    for file in sorted(Path(DATA).rglob("*.json")):
        lines += sentences(json.loads(file.read_text("utf-8")), keys)
    for file in sorted(Path(DATA).rglob("*_caps.txt")):
        lines += file.read_text("utf-8").splitlines()
    if not lines:
        pytest.skip("no captions below RSVLM_DATA")
    assert not differences(lines, ptb.tokenize(lines), by_jar(lines, tmp_path))


AFTER = ["The roof is red", "the roof is red", "", "It is", "Its", "in A", "A", "2 b", "x"]


def depending():
    lines = [line for text in AFTER for line in ("near plot b.", text)]
    return [*lines, "fig.", "3 trees", "fig.", "three", "plot b.", "", "  The end", "plot b."]


def test_a_caption_may_depend_on_the_next_one():
    found = ptb.tokenize(depending())
    assert found[0] == "near plot b" and found[2] == "near plot b."
    assert found[18] == "fig." and found[20] == "fig"


@needs_jar
def test_a_caption_may_depend_on_the_next_one_as_in_the_jar(tmp_path):
    lines = depending()
    assert not differences(lines, ptb.tokenize(lines), by_jar(lines, tmp_path))


def test_line_breaks_inside_a_caption_are_spaces_and_shift_nothing():
    for stop in "\n\r\x0b\x0c\u2028\u2029":
        assert ptb.tokenize([f"a{stop}tree", "one roof"]) == ["a tree", "one roof"]


def test_empty_captions_and_none_at_all():
    assert ptb.tokenize(["", " ", ".", "a tree", " . , "]) == ["", "", "", "a tree", ""]
    assert ptb.tokenize([]) == []
    assert ptb.tokenize(["\ud800 tree"]) == ["tree"]  # half a pair, which no file can hold


def test_long_captions_take_time_in_proportion():
    import time

    # Patterns with repeats inside repeats would take minutes here.
    for piece in ("a-", "a.", "1,", "'s", "<a ", "&eacute;", "www.a.", "x_", "1-1 ", "a@"):
        start = time.process_time()
        ptb.tokenize([piece * 2000])
        assert time.process_time() - start < 5, piece
