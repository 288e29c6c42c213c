"""The tokenizer of COCO's caption evaluation, without Java.

pycocoevalcap 1.2 writes all captions into one file, one per line, runs Stanford's PTBTokenizer
3.4.1 with `-preserveLines -lowerCase` over it, and drops punctuation. This gives the same lines;
`benchmarks/README.md` says on how many captions that was checked.

What follows from the published way, and is kept:

- Brackets stay, as `-lrb-`, since the list of punctuation has them in capitals only.
- The end of a caption may depend on the next one: "plot b." in front of "The ..." gives `b`, in
  front of "the ..." gives `b.`. Captions are therefore tokenised together, in a fixed order.
- Characters outside the basic plane (emoji) are dropped.

The one difference that is known: of Greek's two small sigmas, a capital one beside digits or
hyphens may become the other.

Where the published code breaks, this does not: a line break of any kind inside a caption counts as
a space, where the jar would shift all later captions by a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsvlm.metrics.captions.ptb_rules import ABBREVIATION, RULES, SPACE, shadow

#: COCO's list.
PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "...")
)

_LINE_BREAKS = str.maketrans(dict.fromkeys("\r\n\x0b\x0c\u2028\u2029", " "))
# Lines of words with punctuation behind them and spaces between: nothing to decide.
_PLAIN = re.compile(r" *+(?:[A-Za-z]++[.,;:?!]?(?: ++|$)|[.,;:?!](?: ++|$))*+$")
_STOPPED = re.compile(r"[A-Za-z]++(?=\.)")
_WORDS = re.compile("[a-z]+")
_SPLIT = {
    "cannot": "can not",
    "gonna": "gon na",
    "wanna": "wan na",
    "gotta": "got ta",
    "lemme": "lem me",
    "gimme": "gim me",
}
_SPLITTING = re.compile(rf"\b(?:{'|'.join(_SPLIT)})\b")
# A word that ends at a space holds no surprise either; contractions are left to the rules.
_WORD = re.compile(r"(?!(?i:cannot|[gw][oai][nt][nt]a|[lg][ei]mme)\b)[A-Za-z]++(?=[ \n])")
_GAP = re.compile(f"[ \t]{SPACE}*")

_ANGLES = {"&lt;": "<", "&gt;": ">"}
_CURRENCY = {"¢": "cents", "£": "#"}  # every other one is a dollar
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_BRACKETS = {
    bracket: f"-{name}-"
    for bracket, name in zip("()[]{}", ("LRB", "RRB", "LSB", "RSB", "LCB", "RCB"), strict=True)
}
_ROUND = str.maketrans({"(": "-LRB-", ")": "-RRB-"})
_NO_BREAK = str.maketrans({" ": "\xa0"})
_QUOTE = re.compile("&apos;|&quot;|['\"\x91‘‛‹\x92’›\x93“«\x94”»]", re.IGNORECASE)
_CLOSING = {"&quot;": "''", '"': "''"} | dict.fromkeys("\x93“«", "``")
_CLOSING |= dict.fromkeys("\x94”»", "''") | dict.fromkeys("\x91‘‛‹", "`")

# How far behind a caption its last token may depend on what follows.
_REACH = 64


def tokenize(captions: Sequence[str]) -> list[str]:
    """Tokens of each caption, lower-case, separated by single spaces, without punctuation.

    Args:
        captions: sentences in the order in which the published code would write them.

    Returns:
        One string per caption; empty where nothing is left. A token may hold a no-break space
        (telephone numbers, `1 1/2`), as the published one does.
    """
    lines = [caption.translate(_LINE_BREAKS) for caption in captions]
    plain: dict[str, str | None] = {line: _plain(line) for line in dict.fromkeys(lines)}
    ruled: dict[tuple[str, str], str] = {}
    out = []
    for number, line in enumerate(lines):
        tokens = plain[line]
        if tokens is None:
            key = line, _behind(lines, number)
            tokens = ruled.get(key)
            if tokens is None:
                tokens = ruled[key] = _ruled(*key)
        out.append(tokens)
    return out


def _plain(line: str) -> str | None:
    """Tokens of a line that needs no rules; None for another one."""
    if not _PLAIN.match(line) or any(map(ABBREVIATION.fullmatch, _STOPPED.findall(line))):
        return None
    words = " ".join(_WORDS.findall(line.lower()))
    return _SPLITTING.sub(lambda m: _SPLIT[m.group()], words)


def _behind(lines: list[str], number: int) -> str:
    """What the rules may see behind a line: more than its end only after a period."""
    if number + 1 == len(lines):
        return ""
    if not lines[number].rstrip().endswith("."):
        return "\n"
    behind = ""
    for later in range(number + 1, len(lines)):
        behind += "\n" + lines[later][:_REACH]
        if lines[later].strip():
            break
    return behind + ("\n" if later + 1 < len(lines) else "")


def _ruled(line: str, behind: str) -> str:
    # The published code strips the line before it takes the punctuation out.
    tokens = " ".join(token.lower() for token in _scan(line, behind)).rstrip().split(" ")
    return " ".join(token for token in tokens if token not in PUNCTUATION)


def _scan(line: str, behind: str) -> list[str]:
    """Tokens of one line, as the scanner would write them without lower-casing."""
    seen = shadow(line + behind)
    tokens = []
    position, end = 0, len(line)
    while position < end:
        gap = _GAP.match(seen, position)
        if gap:
            position = gap.end()
            continue
        word = _WORD.match(seen, position)
        if word:
            tokens.append(line[position : word.end()])
            position = word.end()
            continue
        reach, stop, change = 0, 0, ""
        for pattern, what in RULES[seen[position]]:
            match = pattern.match(seen, position)
            # The rule that sees furthest; of equals, the first.
            if match and match.end() > reach and match.end(1) <= end:
                reach, stop, change = match.end(), match.end(1), what
        if not reach:
            position += 1  # a character that no rule knows is dropped
            continue
        token = line[position:stop]
        position = stop
        if change:
            token = _change(token, change)
        if token:
            tokens.append(token)
    return tokens


def _change(token: str, how: str) -> str:
    """What Stanford's tokenizer writes for a token; `how` is the rule's third word."""
    match how:
        case "soft":
            return token.replace("\xad", "") or "-"
        case "right":
            return _QUOTE.sub(lambda m: _CLOSING.get(m.group().lower(), "'"), token)
        case "left":
            return "``" if token != "'" else "`"
        case "dash":
            # One or two hyphens stay, three and four are a dash, more are a line.
            return token if token[0] == "-" and not 3 <= len(token) <= 4 else "--"
        case "bracket":
            return _BRACKETS[token]
        case "round":
            return token.translate(_ROUND)
        case "nbsp":
            return token.translate(_NO_BREAK)
        case "phone":
            return token.translate(_NO_BREAK).translate(_ROUND)
        case "dots":
            return "..."
        case "ampersand":
            return re.sub("(?i:&amp;)", "&", token)
        case "angle":
            return _ANGLES.get(token.lower(), token)
        case "currency":
            return _CURRENCY.get(token, "$")
        case "fraction":
            return _FRACTIONS.get(token, token)
        case "drop":
            return ""
    raise ValueError(f"no such change: {how!r}.")
