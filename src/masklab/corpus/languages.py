"""Guesses what languages a collection is written in, for an overview: by its letters, then by its commonest words.

Coarse on purpose: a document is of the language most of whose small words it uses. It needs no model and no download,
tells the two dozen languages below apart in texts of a paragraph, and calls the rest by their script.
"""

import unicodedata
from collections import Counter
from functools import lru_cache

_WORDS = {
    "English": "the of and to in is was that for it with as his on be at by had are but from have this not which",
    "German": "der die und das den von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus",
    "French": "le la les de des et est un une dans que qui pour sur pas au par avec ce sont il du aux plus été",
    "Spanish": "el la los las de que y en un una es por con para del se no al lo como más su fue pero",
    "Italian": "il di che la e un una per con non del della sono le gli nel alla dei più anche si da come ha",
    "Portuguese": "o a os as de que e em um uma do da no na para com não por foi mais ao dos das se é",
    "Dutch": "de het een van en in is dat op te zijn met voor niet aan er om ook als bij door maar naar was",
    "Swedish": "och att det som en på är av för med den till inte om ett har de jag var sig från vid också",
    "Danish": "og at det som en på er af for med den til ikke om et har de jeg var sig fra ved også blev",
    "Finnish": "ja on ei se että oli hän mutta ovat kun myös joka tai sen sekä kuin jo mukaan vain niin",
    "Polish": "i w na z do się nie to że jest o jak po co ale od przez za był tym dla oraz jego",
    "Czech": "a v na se je že s z do o to i ve pro jako za by ale jeho byl jsou nebo podle",
    "Hungarian": "a az és hogy nem is egy volt ez meg csak van el de még már ki mint azt kell",
    "Romanian": "și de la în a cu o nu pe că un este din pentru mai care ce sau fost prin",
    "Turkish": "ve bir bu da de için ile olarak çok daha olan gibi ne kadar sonra olduğu ise en",
    "Indonesian": "yang dan di dengan untuk dari pada adalah ini itu dalam tidak ke oleh sebagai akan juga",
    "Vietnamese": "và của là các có được trong cho không một người những với này đã khi để",
    "Russian": "и в не на что с по как его он но из к за от это был для так также а о",
    "Ukrainian": "і в не на що з та як його у але із до за від це був для є й про",
    "Bulgarian": "на и в да се от за е са по с не като при който през това че",
}
_SIMPLIFIED = frozenset("个们这来时说国为会对学过发后经长东书车马门见问间电机关开业实现与进还边让认识语读让")
_TRADITIONAL = frozenset("個們這來時說國為會對學過發後經長東書車馬門見問間電機關開業實現與進還邊讓認識語讀")
_SCRIPTS = {"LATIN": "Latin letters", "CYRILLIC": "Cyrillic letters", "CJK": "Chinese", "HIRAGANA": "Japanese",
            "KATAKANA": "Japanese", "HANGUL": "Korean", "ARABIC": "Arabic letters", "DEVANAGARI": "Devanagari",
            "HEBREW": "Hebrew", "GREEK": "Greek", "THAI": "Thai", "BENGALI": "Bengali", "TAMIL": "Tamil",
            "TELUGU": "Telugu", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian", "ETHIOPIC": "Ethiopic",
            "KHMER": "Khmer", "MYANMAR": "Burmese", "LAO": "Lao", "TIBETAN": "Tibetan"}  # fmt: skip
_READ = 4000  # characters of a document that are looked at


def language(text: str) -> str:
    """ "Das ist nicht der Weg." -> "German"; "它们是这个国家的" -> "Chinese, simplified"; "3 + 4" -> "no letters"."""
    text = text[:_READ]
    letters = Counter(_script(character) for character in text if character.isalpha())
    if not letters:
        return "no letters"
    script, count = letters.most_common(1)[0]
    kana = letters["Japanese"]
    if script in ("Chinese", "Japanese") and kana > 0.1 * letters.total():
        return "Japanese"
    if script == "Chinese":
        simplified = sum(character in _SIMPLIFIED for character in text)
        traditional = sum(character in _TRADITIONAL for character in text)
        if simplified + traditional < 2:
            return "Chinese"
        share = simplified / (simplified + traditional)
        return "Chinese, simplified" if share > 0.8 else "Chinese, traditional" if share < 0.2 else "Chinese, mixed"
    if script in ("Latin letters", "Cyrillic letters") and count > 0.5 * letters.total():
        words = text.lower().split()
        votes: Counter[str] = Counter()
        for word in words:
            votes.update(_languages().get(word, ()))
        if votes:
            best, hits = votes.most_common(1)[0]
            if hits >= max(2, 0.08 * len(words)):
                return best
    return script


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return _SCRIPTS.get(unicodedata.name(character, "?").split()[0].split("-")[0], "other letters")


@lru_cache(maxsize=1)
def _languages() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, words in _WORDS.items():
        for word in words.split():
            found.setdefault(word, []).append(name)
    return found
