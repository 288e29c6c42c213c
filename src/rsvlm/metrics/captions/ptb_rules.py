"""What the Penn Treebank tokenizer of COCO's caption evaluation takes for one token.

Stanford's PTBTokenizer 3.4.1 is a scanner without memory: at each position the rule that sees
furthest wins, what it only looks at included, and of equals the one that stands first. `RULES` is
that list, in patterns of our own, checked against the jar.

Patterns are matched on a *shadow* of the text, of the same length, in which characters that behave
alike are one: every letter beyond ASCII is `é`, every such digit `٠`, every symbol `§` (see
`shadow`). Group 1 is the token; what a pattern matches behind it is what the rule looks at.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

# Characters that a rule names; they are their own shadow.
_NAMED = (
    "\x80\x85\x91\x92\x93\x94\x96\x97\xa0¢£¤«\xad²³¹»¼½¾\u058a٫٬\u2010\u2011–—―‘’‚‛“”„‟…‹›⁄"
    "⁰⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉₊₋₠€、\u2028\u2029" + "".join(map(chr, range(0x2153, 0x215F)))
)
_SPACES = (*range(0x2000, 0x200B), 0x3000)
_DROPPED = "\x81"


class _Shadow(dict[int, str]):
    """A table for `str.translate` that is filled as characters come up."""

    def __init__(self) -> None:
        super().__init__({code: chr(code) for code in range(128)})
        self.update({ord(c): c for c in _NAMED})
        self.update(dict.fromkeys(_SPACES, "\u2000"))

    def __missing__(self, code: int) -> str:
        for shade, ranges in _shades().items():
            if any(first <= code <= last for first, last in ranges):
                self[code] = shade
                return shade
        self[code] = _DROPPED
        return _DROPPED


@cache
def _shades() -> dict[str, list[tuple[int, int]]]:
    shade_of = {"letter": "é", "mark": "\u0300", "digit": "٠", "symbol": "§"}
    shades: dict[str, list[tuple[int, int]]] = {shade: [] for shade in shade_of.values()}
    listed = Path(__file__).with_name("ptb_characters.txt").read_text("ascii")
    for line in listed.splitlines():
        if not line.startswith("#"):
            name, *spans = line.split()
            for span in spans:
                first, _, last = span.partition("-")
                shades[shade_of[name]].append((int(first, 16), int(last or first, 16)))
    return shades


_TABLE = _Shadow()


def shadow(text: str) -> str:
    """The text with like characters made one, position by position."""
    return text if text.isascii() else text.translate(_TABLE)


# Parts of patterns -------------------------------------------------------------------------
# The scanner ignores the case of words it spells out, never that of a class like [A-Z].


def _any_case(words: str) -> str:
    return "(?i:" + "|".join(words.split()) + ")"


SPACE = "[ \t\xa0\u2000]"
BREAK = "[ \t\xa0\u2000\r\n\x0b\x0c\x85\u2028\u2029]"
_LET = "A-Za-zé"
_DIG = "0-9٠"
_ENTITY = "&[aeiouAEIOU](?i:acute|grave|uml);"
_LETTER = rf"(?:[{_LET}\u0300\xad]|{_ENTITY})"
_INNER = rf"(?:[{_LET}\u0300\xad{_DIG}]|{_ENTITY})*+"
_WORD = rf"{_LETTER}{_INNER}(?:[.!?]{_LETTER}{_INNER})*+"
_PAUSE = "[,;:、]"

_APOS = "(?:['\x92’]|(?i:&apos;))"
_TICK = "(?:['\x92’`\x91‘‛]|(?i:&apos;))"
_CLITIC = f"{_APOS}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = f"[nN]{_TICK}[tT]"

_COUNT = rf"(?:[{_DIG}]++(?:[.:,\xad٫٬][{_DIG}]++)*+|(?:[.:,\xad٫٬][{_DIG}]++)++)"
_OVER = r"(?:\\?/|⁄)"

_STAR = _any_case("canada sino korean eu japan non") + "-[uU]\\.[sS]"
_INITIALS = (
    rf"(?:[uU]\.[sS]\.-(?:[uU]\.[sS]\.[sS]\.[rR]|[uU]\.[kK])|{_STAR}|[A-Za-z](?:\.[A-Za-z])*)"
)

# Abbreviations that stand before small letters; the second list only with a capital.
_MINOR = (
    _any_case(
        "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri "
        "ala ariz calif colo conn ct dak fla ga ind kans? ky md mich minn mo mont neb nev okla "
        "penn tenn va vt wisc? wyo inc cos? corp ltd plc rt bancorp bhd assn univ intl sys "
        "tel est ext sq jr sr bros ed\\.d ph\\.d blvd rd esq etc al seq bldg"
    )
    + "|[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[LP][aA]|[M](?i:ass|iss)|[O](?i:re)|[T](?i:ex)"
    + "|[W](?i:ash)|(?i:pp?t)[ye][sS]?"
)
# Abbreviations that stand before capitals.
_MAJOR = (
    f"{_INITIALS}|"
    + _any_case(
        "mrs? ms drs? profs? sens? reps? attys? lt col gen messrs govs? adm rev maj sgt cpl pvt "
        "capt ste? ave pres lieut hon brig co?mdr pfc spc supts? det mt ft adj adv asst assoc ens "
        "insp mlle mme msgr sfc vs alex wm jos cie a\\.k\\.a cf treas ph invt elec natl dept"
    )
    + "|[M](?i:iss)|[mM][ft][gG]"
)
_BEFORE_NUMBERS = _any_case("ca figs? prop nos? art bldg pp op")
# Words that begin a sentence: a single letter with a period before them ends one.
_OPENERS = (
    "A|A(?i:bout|ccording|dditionally|fter|n|s|t)|B(?i:ut)|E(?i:arlier)|H(?i:e|er|ere|owever)"
    "|I(?i:f|n|t)|L(?i:ast)|M(?i:any|ore|r\\.|s\\.)|N(?i:ow)|O(?i:nce|ne|ther|ur)"
    "|S(?i:he|ince|o|ome|uch)|T(?i:hat|he|heir|hen|here|hese|hey|his)|W(?i:e|hen|hile|hat)"
    "|Y(?i:et|ou)"
)

_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*+"
_TAG = (
    rf"<(?:[!?][A-Za-z\-][^>\r\n]*|{_NAME}(?: +{_NAME}(?: *= *(?:'[^'\n]*'|\"[^\"\n]*\"))?)* */?"
    rf"|/{_NAME}) *>"
)
_PATH = r"/[^ \t\n\x0c\r\"<>|()]+[^ \t\n\x0c\r\"<>|.!?(){},\-]"
_URL = r"(?i:https?)://[^ \t\n\x0c\r\"<>|(){}]+[^ \t\n\x0c\r\"<>|.!?(){},\-]"
_WWW = r"(?i:www)\.(?:[^ \t\n\x0c\r\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"
_HOST = r"(?:[^ \t\n\x0c\r\"`'<>|!?(){},-_$]+\.)+(?i:com|net|org|edu)"
_MAIL = (
    r"(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n\x0c\r\"<>|()\xa0{}]*@"
    r"(?:[^ \t\n\x0c\r\"<>|(){}.\xa0]+\.)*[^ \t\n\x0c\r\"<>|(){}.\xa0]+(?:>|(?i:&gt;))?"
)
_EXTENSION = _any_case(
    "bat bmp c class cgi cpp dll docx? exe gif gz html? h jar java jpeg jpg mov mp3 pdf php pl png "
    "ppt ps py sql tar txt wav x xml zip"
)
_LD = f"{_LET}{_DIG}"
_FILE = rf"(?:{_LETTER}|[{_DIG}])+(?:[.](?:{_LETTER}|[{_DIG}])+)*[.]{_EXTENSION}"
_THING = (
    rf"(?:[dDoOlL]{_TICK}[{_LD}])?[{_LD}]+"
    rf"(?:[-_\u058a\u2010\u2011](?:[dDoOlL]{_TICK}[{_LD}])?[{_LD}]+)*"
)
_HYPHENED = (
    r"[A-Za-z0-9][A-Za-z0-9.,\xad]*"
    r"(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\xad]+))+"
)
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
_AND = r"[A-Z]+(?:(?:(?i:&amp;)|[+&])[A-Z]+)+"
_GAP = "[- \xa0]"
_PHONE = (
    rf"(?:\([0-9]{{2,3}}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{{2,4}}{_GAP})?[0-9]{{2,4}}{_GAP})"
    rf"[0-9]{{3,4}}{_GAP}?[0-9]{{3,5}}"
    r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
_QUOTE = "[`‘’‚‛“”\x91\x92\x93\x94„‟‹›«»]{1,2}"
_CONTRACTIONS = (
    f"{_APOS}[nN]{_APOS}?",
    f"[lLdDjJ]{_APOS}",
    f"(?i:dunkin|somethin|ol){_APOS}",
    f"{_APOS}(?i:em|till?|cause)",
    f"{_APOS}[2-9]0[sS]",
    f"[A-HJ-XZn]{_TICK}[{_LET}]{{2,}}",
    f"[{_LET}]+[aeiouyAEIOUY]{_TICK}[aeiouA-Z][{_LET}]*",
    r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)",
    f"[oO]{_TICK}[oO]",
)

# The rules ----------------------------------------------------------------------------------
# (characters a match can start with, pattern, what becomes of the token); see ptb.py for the last.

_W = f"{_LET}\u0300\xad&"
_ALNUM = "A-Za-z0-9"
_RULES: tuple[tuple[str, str, str], ...] = (
    ("cC", r"([cC]\+\+)", ""),
    ("cCfF", "([cCfF]#)", ""),
    ("cC", "((?i:can))(?i:not)", ""),
    ("'", "('[tT])(?i:was|is)", ""),
    ("gGlLwW", "((?i:gon|wan))(?i:na)", ""),
    ("gG", "((?i:got))(?i:ta)", ""),
    ("lLgG", "((?i:lem|gim))(?i:me)", ""),
    ("<", f"({_TAG})", "nbsp"),
    ("&\x96\x97–—―", "(&(?i:md|mdash|ndash);|[\x96\x97–—―])", "dash"),
    ("&", "((?i:&amp;))", "ampersand"),
    ("&", "(&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);)", ""),
    (_W, f"({_WORD}){_CLITIC}", "soft"),
    ("A-Za-z\xad", rf"([A-Za-z\xad]*[A-MO-Za-mo-z]\xad*){_NOT}", "soft"),
    (_W, f"({_WORD})", "soft"),
    *((f"{_LET}'\x92’&", f"({pattern})", "") for pattern in _CONTRACTIONS),
    ("yY", f"([yY]{_APOS})[{_LET}]", ""),
    ("hH", f"({_URL})", ""),
    ("wW", f"({_WWW}(?:{_PATH})?)", ""),
    ("wW", f"({_WWW}{_PATH})", ""),
    ("^,-_ \t\n\x0c\r\"`'<>|!?(){}$", f"({_HOST}(?:{_PATH})?)", ""),
    (f"<&{_ALNUM}", f"({_MAIL})", ""),
    ("@", "(@[a-zA-Z_][a-zA-Z_0-9]*)", ""),
    ("#", f"(#{_LETTER}+)", ""),
    ("'\x92’&", f"({_CLITIC})[^A-Za-z]", "right"),
    ("nN", f"({_NOT})[^A-Za-z]", "right"),
    (_DIG, rf"([{_DIG}]{{1,2}}[-/][{_DIG}]{{1,2}}[-/][{_DIG}]{{2,4}})", ""),
    (rf"{_DIG}\-+.:,\xad٫٬", rf"([-+]?{_COUNT})", "soft"),
    ("⁺⁻₊₋⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "([⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+))", ""),
    (_DIG, f"((?:[{_DIG}]{{1,4}}{_GAP})?[{_DIG}]{{1,4}}{_OVER}[{_DIG}]{{1,4}})", "nbsp"),
    ("¼½¾⅓-⅞", "([¼½¾⅓-⅞])", "fraction"),
    ("-", "(-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-)", ""),
    ("cCpPaA", rf"((?i:c\.d\.s|pro-|anti-)|[cC](?:(?i:ap){_APOS}[nN]|{_APOS}(?i:est)))", ""),
    ("sS", "([sS](?:(?i:&amp;)|&)(?i:p-500|ls))", "ampersand"),
    (_ALNUM, f"({_SLASHED})", ""),
    ("A-Z$#", r"([A-Z]*\$|#)", ""),
    ("¢£¤\x80₠€", "([¢£¤\x80₠€])", "currency"),
    ("A-Za-z", rf"([A-Za-z])\.{BREAK}+(?:{_OPENERS}|{_TAG}){BREAK}", ""),
    ("A-Za-z", rf"({_BEFORE_NUMBERS}\.){BREAK}?[{_DIG}]", ""),
    ("pPcC", rf"((?:[pP][tT][eyEY]|[cC][oO])\.){SPACE}(?i:ltd|lim)", ""),
    ("A-Za-z", rf"((?:{_MINOR})\.)[\s\S]{{2}}", ""),
    ("A-Za-z", rf"((?:{_MINOR})\.)", ""),
    ("A-Za-z", rf"((?:{_MAJOR})\.)", ""),
    ("A-Za-z", f"({_MAJOR}){SPACE}", ""),
    ("A-Za-z", f"({_INITIALS}){BREAK}", ""),
    ("'\x92’&", f"({_APOS}[0-9][0-9]){BREAK}", ""),
    (f"{_W}{_DIG}", f"({_FILE})(?:{BREAK}|[.?!,])", ""),
    (_W, rf"({_WORD}\.){_PAUSE}", "soft"),
    ("0-9(+", f"({_PHONE})", "phone"),
    ('"&', '("|(?i:&quot;))[A-Za-z0-9$]', "left"),
    ('"&', '("|(?i:&quot;))', "right"),
    ("<>&", "([<>]|(?i:&lt;|&gt;))", "angle"),
    ("<>:;=", r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", "round"),
    (
        "-^x=~<>'(",
        r"([-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\))",
        "round",
    ),
    (r"\^x=~<>", r"([\^x=~<>]\.\[\^x=[^<]*<>\])", "round"),
    (r"{}\[\]()", r"([{}\[\]()])", "bracket"),
    ("-", "(-+)", "dash"),
    (".…\x85", "(\\.{3,5}|(?:\\.[ \xa0]){2,4}\\.|[…\x85])", "dots"),
    ("@#_", "(@+|#+|_+)", ""),
    (r"*\\", r"(\*+|(?:\\\*){1,3})", ""),
    (_PAUSE[1:-1], f"({_PAUSE})", ""),
    ("?!", "([?!]+)", ""),
    (".=/", "([.=/])", ""),
    (_ALNUM, rf"({_HYPHENED}\.){_PAUSE}", "soft"),
    (_ALNUM, f"({_HYPHENED})", "soft"),
    (_LD, rf"({_THING}\.){_PAUSE}", ""),
    (_LD, f"({_THING})", ""),
    ("A-Z", rf"({_AND}\.){_PAUSE}", "ampersand"),
    ("A-Z", f"({_AND})", "ampersand"),
    ("'", "(')[A-Za-z][^ \t\n\r\xa0]", "left"),
    ("'\x92’&", f"({_CLITIC})", "right"),
    ("nN", f"({_NOT})", "right"),
    ("'\x92’&`‘‚‛“”\x91\x93\x94„‟‹›«»", f"(''|{_QUOTE}|{_APOS})", "right"),
    ("<>", "(<<|>>)", ""),
    (r"+%&~^|\\§²³¹⁺⁻₊₋⁄", r"([+%&~^|\\§²³¹⁺⁻₊₋⁄])", ""),
    ("\xa0\u2000", f"({SPACE}+)", "drop"),
    ("&", "((?i:&nbsp;))", "drop"),
)


Rule = tuple[re.Pattern[str], str]


class Rules(dict[str, tuple[Rule, ...]]):
    """Character of the shadow -> the rules whose match can start with it, in order."""

    def __missing__(self, character: str) -> tuple[Rule, ...]:
        self[character] = found = tuple(
            rule for first, rule in _compiled() if first.match(character)
        )
        return found


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], Rule], ...]:
    return tuple(
        (re.compile(f"[{first}]"), (re.compile(pattern), change))
        for first, pattern, change in _RULES
    )


RULES = Rules()

#: A word with the period that may belong to it, where a rule about abbreviations may hold.
ABBREVIATION = re.compile(rf"(?:[A-Za-z]|{_MINOR}|{_MAJOR}|{_BEFORE_NUMBERS})", re.IGNORECASE)
