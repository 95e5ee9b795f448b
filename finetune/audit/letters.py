"""The scripts of characters, by their Unicode names."""

import unicodedata
from functools import cache

# Names begin with the script, sometimes after a word such as FULLWIDTH.
SCRIPTS = frozenset(
    {
        "LATIN",
        "CYRILLIC",
        "GREEK",
        "ARMENIAN",
        "GEORGIAN",
        "HEBREW",
        "ARABIC",
        "SYRIAC",
        "THAANA",
        "DEVANAGARI",
        "BENGALI",
        "GURMUKHI",
        "GUJARATI",
        "ORIYA",
        "TAMIL",
        "TELUGU",
        "KANNADA",
        "MALAYALAM",
        "SINHALA",
        "THAI",
        "LAO",
        "TIBETAN",
        "MYANMAR",
        "KHMER",
        "MONGOLIAN",
        "ETHIOPIC",
        "CHEROKEE",
        "HANGUL",
        "HIRAGANA",
        "KATAKANA",
        "BOPOMOFO",
        "CJK",
        "COPTIC",
    }
)
# Written together in one text, so they are one.
TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "BOPOMOFO": "CJK"}
# No white space between words.
UNSPACED = frozenset({"CJK", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
# Scripts with letters that look like those of another of them.
LOOKALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})


@cache
def script_of(character: str) -> str:
    """The script of a letter ("LATIN"); "" for other characters and rare scripts."""
    if not character.isalpha():
        return ""
    for word in unicodedata.name(character, "").split()[:2]:
        if word in SCRIPTS:
            return TOGETHER.get(word, word)
    return ""
