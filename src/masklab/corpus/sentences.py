"""Finds where sentences begin: by lines, or by rules for English, Chinese and the scripts that end them as these do.

The rules look at every mark that may end a sentence, with the quotes and brackets that close after it, and ask what
stands before and behind: decimals, addresses, initials, titles, labels of lists and brackets inside a sentence go on;
an abbreviation ends one only before a word that likes to begin sentences ("in the U.S. The army" but not "the U.S.
Army"), at the price of a missed end now and then. A line end ends a sentence too (headings have no full stop), unless
the lines are broken to one width. Scripts without such marks (Thai) are cut at line ends alone.
"""

import re
from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Literal, get_args

from masklab.errors import BadInput

Mode = Literal["rules", "line", "none"]
MODES = get_args(Mode)

_WIDE = "。！？｡．؟۔।॥։።፧။།‼⁇⁈⁉‽"  # no white space need follow these
_CLOSE = "\"'”’)\\]}」』）】》〉〕］»›＂＇"
_FACE = r"\s*(?:[:;=][-o']?[)(\]DPpO/\\|*]+(?=\s|$)|[\U0001F300-\U0001FAFF☺☹❤♥\uFE0F\u200D]+)"
# The marks, closing quotes and brackets, notes such as [3], smileys, and the space up to the next sentence; or a line
# end. It begins with a set of characters, which the regular expression engine finds quickly.
_ENDS = re.compile(
    rf"[.!?…\n{_WIDE}](?:(?<!\n)[.!?…{_WIDE}]*([{_CLOSE}]*)(?:[“‟«](?=\s))?(?:\[\d{{1,3}}\])*(?:[ \xa0\u202f]»(?=\s))?"
    rf"(?:{_FACE})*)?\s*"
)
_LINES = re.compile(r"(?:\A|\n)\s*(?=\S)")
_OPENERS = "\"'“‘„«‹([{¿¡*_-–—「『（《【〈 "
_INITIALS = re.compile(r"(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}|[^\W\d_]")  # J (J. Smith), U.S, e.g, Ph.D
_LABEL = re.compile(r"[\"'“‘(\[]*(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxlIVXL]{1,5})")
_ROMAN = re.compile(r"[IVXLCDM]+\b|[A-Z]\b")
_ITEM = re.compile(r"[-*•·+] |\(?\w{1,3}[.)] ")
_SAID = re.compile(r"(?:\w+ )?(?:said|says|asked|asks|cried|replied|shouted|whispered|answered|added|thought)\b")
_EAST_ASIAN = re.compile("[\u2e80-\u9fff\uf900-\uffef\U00020000-\U0003ffff]")
_WORD = re.compile(r"[^\W\d_]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = _words(
    "mr mrs ms dr prof rev revd hon gen col maj capt lt sgt cpl pvt pte cmdr comdr supt insp adm gov sen rep messrs "
    "mme mlle sra dra srta mt ft "
    "vs cf ca approx viz e.g i.e bzw vgl z.b т.е ул им проф डॉ श्री"
)  # another word always follows
_NUMBERED = _words("no nos nr fig figs eq eqs sec secs vol vols ch pp p pt art app par lines ver tab rs")
_ABBREVIATIONS = _words(
    "st sr jr pres fr etc al est ed eds trans inc ltd co corp bros dept univ assn ave blvd rd intl gmbh usw int natl "
    "appr lit esp incl orig "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun"
)
_ALSO_WORDS = _words("no co sun sat mon mar jan dec wed fig art par app tab al st fr est ed rd ch sec")  # in lower case
_STARTERS = _words(
    "the a an he she it they we you i in on at but and or so this that these those there then when while if as after "
    "before however his her its their our my your what who why how where for from with by since although though "
    "because both each some many most all one two no not now also another such during despite yet still once until "
    "under other here let finally later today meanwhile nevertheless moreover furthermore thus therefore nobody"
)
_SURE_STARTERS = _words("he she it they we i this these those there but however then")  # in text without capitals
_SPECIAL = _TITLES | _NUMBERED | _ABBREVIATIONS
_MONTHS = _words("januar februar märz april mai juni juli august september oktober november dezember")
_PARTICLES = "とっなのをはがにもでやかへ"  # Japanese goes on after a closing quote with these


def starts(text: str, mode: Mode = "rules") -> list[int]:
    """Character offsets of the sentences' first characters, in order.

    mode: "rules"; "line" for text with a sentence a line; "none" makes the text one sentence.
    starts("Dr. Who came. He left!  Why?") -> [0, 14, 24]
    """
    first = len(text) - len(text.lstrip())
    if first == len(text):
        return []
    if mode == "rules":
        return _by_rules(text, first)
    if mode == "line":
        return [match.end() for match in _LINES.finditer(text)]
    if mode != "none":
        raise BadInput(f"there is no way {mode!r} to find sentences; choose one of: {', '.join(MODES)}")
    return [first]


def split(text: str, mode: Mode = "rules") -> list[str]:
    """The sentences themselves, without the white space between them.

    split("So it is.\\nIs it?") -> ["So it is.", "Is it?"]
    """
    edges = [*starts(text, mode), len(text)]
    return [text[a:b].rstrip() for a, b in pairwise(edges)]


def examples(texts: Iterable[str], mode: Mode = "rules", most: int = 10) -> list[str]:
    """Sentences from all over the first 200 texts, long ones shortened in their middle, for a person to judge."""
    found = [sentence for text in islice(texts, 200) for sentence in split(text[:5000], mode)[:50]]
    count = min(most, len(found))
    picked = [i * len(found) // count + i % (len(found) // count) for i in range(count)]
    shown = [" ".join(found[at].split()) for at in picked]
    return [line if len(line) <= 110 else f"{line[:70].rstrip()} … {line[-35:].lstrip()}" for line in shown]


def wrapped(text: str) -> float:
    """The share of line ends at which the next word would not have fitted: near 1 where lines are broken to a width."""
    lines = text.split("\n")
    width = max(map(len, lines))
    if not 50 <= width <= 120:
        return 0.0
    full = [
        len(a.rstrip()) + 1 + len(b.split(None, 1)[0]) > width for a, b in pairwise(lines) if a.strip() and b.strip()
    ]
    return sum(full) / len(full) if len(full) > 2 else 0.0


def _by_rules(text: str, first: int) -> list[int]:
    length = len(text)
    cased = not text.islower()
    width = max(map(len, text.split("\n"))) if "\n" in text and wrapped(text) >= 0.5 else 0
    found = [first]
    for match in _ENDS.finditer(text, first):
        at, after = match.span()
        if after == length:
            break
        sign = text[at]
        if sign == "." and after == at + 2 and text[after].isupper() and at > found[-1] + 5:  # a short way for most
            word = text[max(text.rfind(" ", at - 24, at) + 1, found[-1]) : at]
            if word.isalpha() and len(word) > 1 and word.isascii() and word.lower() not in _SPECIAL:
                found.append(after)
                continue
        if sign in ".!?" and not text[after - 1].isspace() and text[after] < "\u2e80" and after - at == 1:
            continue  # 3.5, example.org
        if "\n" in match.group() and (not width or _broken_here(text, match, width)):
            found.append(after)
        elif sign != "\n":
            after = _next(text, match, found[-1], cased)
            if after:
                found.append(after)
    return found


def _broken_here(text: str, match: re.Match[str], width: int) -> bool:
    """Was the line ended on purpose, with room for another word, or before a blank line or an item of a list?"""
    at = text.index("\n", match.start())
    if text.count("\n", at, match.end()) > 1 or _ITEM.match(text, match.end()):
        return True
    word = text[match.end() : match.end() + 40].split(None, 1)[0]
    return at - (text.rfind("\n", 0, at) + 1) + 1 + len(word) <= width


def _next(text: str, match: re.Match[str], begin: int, cased: bool) -> int:
    """Where the next sentence begins if one ends at this match, else 0. `begin`: of the sentence so far."""
    at, after, closed = match.start(), match.end(), match.group(1) or ""
    run = text[at : match.start(1)] if match.group(1) is not None else text[at]
    before, following = text[at - 1 : at], text[after]
    if any(sign in closed for sign in "》〉"):  # a title such as 《怎么办？》
        return 0
    if closed and not _bracket_began(text, at, begin, closed):
        return 0
    asian = _east_asian(before) or _east_asian(following)
    if not run.strip(".…") and (asian or following in "“‘") and (len(run) > 1 or run == "…"):
        return after if _ellipsis_ends(text, at, begin, closed, before, following) else 0
    if any(sign in _WIDE for sign in run):
        if run == "．" and (at - begin < 4 or (before.isdigit() and following.isdigit())):
            return 0
        if text.rfind("《", max(begin, at - 40), at) > text.rfind("》", max(begin, at - 40), at):  # 《啊！梦》
            return 0
    elif not text[after - 1].isspace():
        if not asian or (run == "." and not _east_asian(before)):
            return 0
    else:
        return after if _ends_spaced(text, at, after, begin, run, closed, cased) else 0
    if following in "，、；：,;:" or (closed and following in _PARTICLES):
        return 0
    if closed[:1] == '"' and not text[after - 1].isspace() and not _inside_quotes(text, at):
        return match.start(1)  # 他来了。"你好。" : the quote opens
    return after


def _east_asian(character: str) -> bool:
    """Of a script that is written without spaces between words and sentences."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\uffef" or character >= "\U00020000"


def _bracket_began(text: str, at: int, begin: int, closed: str) -> bool:
    """A sentence that ends inside brackets ends only if it began with them: (He went.) but not he went (really?) on."""
    for close, opener in (")(", "）（", "][", "】【"):
        if close in closed:
            began = text[begin : begin + 4].lstrip(_OPENERS.replace(opener, ""))
            return began.startswith(opener) or opener not in text[max(begin, at - 1000) : at]
    return True


def _ellipsis_ends(text: str, at: int, begin: int, closed: str, before: str, following: str) -> bool:
    """他走了……她哭了 ends; 我……我不知道 is a stammer, and a sentence may begin with …… ."""
    if following in "，、；：。！？":
        return False
    if closed and at - begin < 2:  # “……”
        return True
    if before == following or at - begin < 2 or before in "“‘「『（\"'：，":
        return False
    return not (text[at - 2] in "“‘「『（\"'：，。！？" and not closed)


def _inside_quotes(text: str, at: int) -> bool:
    """Is a straight quote open here, counting from the beginning of the paragraph?"""
    return text.count('"', max(text.rfind("\n", 0, at) + 1, at - 2000), at) % 2 == 1


def _ends_spaced(text: str, at: int, after: int, begin: int, run: str, closed: str, cased: bool) -> bool:
    """The rules of scripts with spaces between words: does . ! ? … end a sentence before the word at `after`?"""
    here = after
    while here < len(text) - 1 and here < after + 4 and text[here] in _OPENERS:
        here += 1
    following = text[here]
    if following in ".,;:)]}”%&/=":
        return False
    found = _WORD.match(text, here, here + 20)
    word = found.group() if found else ""
    if following.islower() and cased and not text[here + 1 : here + 2].isupper():  # iPhone begins a sentence
        return False
    if not cased and closed and _SAID.match(text, here):
        return False
    if run != ".":
        dots = not run.strip(".…")
        return not (dots and (word == "I" or not cased)) and at > begin
    return _full_stop(text, at, here, begin, word, cased)


def _full_stop(text: str, at: int, here: int, begin: int, following: str, cased: bool) -> bool:
    """Is this dot a full stop, or does it belong to the word before it?"""
    if text[at - 1 : at].isspace():
        return at > begin  # text cut into tokens: "he left . Then"
    if at - begin <= 12 and _LABEL.fullmatch(text, begin, at):
        return False
    pieces = text[max(begin, at - 40) : at].split()
    word = (pieces[-1] if pieces else "").lstrip(_OPENERS)
    if not word.isascii():
        word = _EAST_ASIAN.split(word)[-1]
    if "/" in word or "-" in word:
        word = re.split("[/-]", word)[-1]
    lower = word.lower()
    digit = text[here].isdigit()
    starter = following.lower() in (_STARTERS if cased else _SURE_STARTERS)
    if lower in _NUMBERED and (digit or (word not in _ALSO_WORDS and _ROMAN.match(text, here))):
        return False
    if lower in ("no", "nos") or (word in _ALSO_WORDS and not digit and (starter or word not in ("al", "st", "ed"))):
        return True
    if lower in _TITLES:
        return False
    if lower in _NUMBERED or lower in _ABBREVIATIONS:
        return starter and not digit
    if _INITIALS.fullmatch(word) and not _east_asian(word[0]):
        return (word == "I" or starter) and text[here + 1 : here + 2] != "."  # Z. A. Bhutto
    return not (word.isdigit() and len(word) < 3 and following.lower() in _MONTHS)
