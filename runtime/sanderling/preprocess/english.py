"""English as it is spoken: what espeak-ng reads wrongly, written out; all that it reads well is left alone.

Measured with espeak-ng 1.52: it reads whole numbers, decimals, ordinals, percentages, times of day, initials and most
abbreviations well, but ends a sentence behind "Dr.", "Mrs." or "U.S.", says a currency before its amount ("dollar
three point five zero"), "z" behind a decade, "dash" in a range, "slash" in a date, "roman" before a number of Roman
digits, and spells units that follow a number at once.
"""

from __future__ import annotations

import re

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
# Words whose dot ends no sentence: what stands for each where espeak-ng does not know it without its dot.
_TITLES = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missis", "Ms": "Miz", "Prof": "Professor", "Rev": "Reverend",
    "Gen": "General", "Col": "Colonel", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Sen": "Senator",
    "Gov": "Governor", "Hon": "Honorable", "Mt": "Mount", "Messrs": "Messieurs",
}  # fmt: skip
_NUMBERED = {
    "No": "number", "Nos": "numbers", "Vol": "volume", "Fig": "figure", "Sec": "section", "Ch": "chapter",
    "pp": "pages", "p": "page", "Art": "article",
}  # fmt: skip
_SHORTENED = {
    "approx": "approximately", "vs": "versus", "etc": "et cetera", "Inc": "Incorporated", "Ltd": "Limited",
    "Corp": "Corporation", "Co": "Company", "dept": "department", "Dept": "Department", "Ave": "Avenue",
    "Blvd": "Boulevard", "Jr": "Junior", "Sr": "Senior", "est": "estimated",
}  # fmt: skip
_SHORT_MONTHS = {month[:3]: month for month in _MONTHS if month != "May"} | {"Sept": "September"}
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
_UNITS = {
    "km": "kilometers", "cm": "centimeters", "mm": "millimeters", "kg": "kilograms", "mg": "milligrams", "ft": "feet",
    "lb": "pounds", "lbs": "pounds", "oz": "ounces", "mph": "miles per hour", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "kB": "kilobytes", "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes",
    "ms": "milliseconds",
    "°C": "degrees Celsius", "°F": "degrees Fahrenheit",
}  # fmt: skip
_ONE = {
    "feet": "foot", "ounces": "ounce", "pounds": "pound", "miles per hour": "mile per hour",
    "degrees Celsius": "degree Celsius", "degrees Fahrenheit": "degree Fahrenheit",
}  # fmt: skip
_DECADES = {
    "2": "twenties", "3": "thirties", "4": "forties", "5": "fifties", "6": "sixties", "7": "seventies", "8": "eighties",
    "9": "nineties",
}  # fmt: skip
_BEFORE_SAINTS = {"Mount", "Lake", "Port", "Fort", "The", "Of", "In", "At", "And", "Near", "From"}
_AMOUNT = r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?"
_SCALE = r"(?:\s+(hundred|thousand|million|billion|trillion))?"


def _any(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_MONEY = re.compile(rf"([$£€])\s?{_AMOUNT}{_SCALE}(?![\d,.]*\d)")
_TITLE = re.compile(rf"\b({_any(_TITLES)})\.(?=\s+[\"“(]?[A-Z])")
_NUMBER = re.compile(rf"\b({_any(_NUMBERED)})\.(?=\s*\d)")
_SHORT_MONTH = re.compile(rf"\b({_any(_SHORT_MONTHS)})\.(?=\s+\d)")
_SHORT = re.compile(rf"\b({_any(_SHORTENED)})\.(?=(\s+[a-z0-9]|\s*[,;:)]|\s*$|\s+[A-Z])?)")
_SAINT = re.compile(r"\bSt\.(?=(\s+)(\w+))")
# Words that begin a sentence more often than they follow initials in one.
_BEGINNERS = (
    r"(?:The|This|That|These|There|They|Then|In|It|He|She|We|You|But|And|I|A|An|As|At|For|If|On|So|To|When|What)"
)
_INITIALS = re.compile(rf"\b((?:[A-Z]\.){{2,}})(?=\s+(?!{_BEGINNERS}\b)[A-Za-z0-9])")
# An initial before another one, and one behind a name or an initial.
_FOLLOWED = re.compile(r"\b([A-HJ-Z])\.(?=\s+[A-Z]\.)")
_INITIAL = re.compile(rf"(^|\b[A-Z][a-z]+ |\b[A-Z] )([A-HJ-Z])\.(?=\s+(?!{_BEGINNERS}\b)[A-Z])", re.MULTILINE)
_DECADE = re.compile(r"(?:\b(\d{2})|['’])([2-9])0s\b")
_ISO_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_US_DATE = re.compile(r"\b(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/(\d{4})\b")
_RANGE = re.compile(r"(?<![\d-])(\d{1,4})\s?[-–]\s?(\d{1,4})(?![\d-])")
_UNIT = re.compile(rf"(?<![\w.])({_AMOUNT})\s?({_any(_UNITS)})(?![\w°])")
_ROMAN = re.compile(r"(?<=[a-z] )(?<!\bthe )(?<!\ban )(?=[IVX]{2,}\b)(X{0,3}(?:IX|IV|V?I{0,3}))\b")


def written_out(text: str) -> str:
    """An English text with what espeak-ng would read wrongly in words."""
    text = _MONEY.sub(_money, text)
    text = _ISO_DATE.sub(lambda m: f"{_MONTHS[int(m[2]) - 1]} {int(m[3])}, {m[1]}", text)
    text = _US_DATE.sub(lambda m: f"{_MONTHS[int(m[1]) - 1]} {int(m[2])}, {m[3]}", text)
    text = _DECADE.sub(_decade, text)
    text = _UNIT.sub(_unit, text)
    text = _RANGE.sub(r"\1 to \2", text)
    text = _TITLE.sub(lambda m: _TITLES[m[1]], text)
    text = _NUMBER.sub(lambda m: _NUMBERED[m[1]] + " ", text)
    text = _SHORT_MONTH.sub(lambda m: _SHORT_MONTHS[m[1]], text)
    text = _SAINT.sub(_saint, text)
    text = _SHORT.sub(_short, text)
    text = _INITIALS.sub(lambda m: " ".join(m[1].replace(".", " ").split()), text)
    text = _INITIAL.sub(r"\1\2", _FOLLOWED.sub(r"\1", text))
    return _ROMAN.sub(_roman, text)


def _money(found: re.Match[str]) -> str:
    one, many, small, smalls = _CURRENCIES[found[1]]
    whole, part, scale = found[2], found[3], found[4]
    if scale or (part is not None and len(part) != 2):
        number = whole if part is None else f"{whole}.{part}"
        return f"{number} {scale} {many}" if scale else f"{number} {many}"
    said = f"{whole} {one if whole == '1' else many}"
    if part is None or part == "00":
        return said
    cents = f"{int(part)} {small if int(part) == 1 else smalls}"
    return cents if whole == "0" else f"{said} and {cents}"


def _decade(found: re.Match[str]) -> str:
    return f"{found[1]} {_DECADES[found[2]]}" if found[1] else _DECADES[found[2]]


def _unit(found: re.Match[str]) -> str:
    words = _UNITS[found[4]]
    if found[1] == "1":
        words = _ONE.get(words, words.removesuffix("s"))
    return f"{found[1]} {words}"


def _saint(found: re.Match[str]) -> str:
    """A street behind a name or a number, a saint before one; the dot stays where a sentence seems to end."""
    before = found.string[: found.start()].rstrip()
    named = re.search(r"(?:^|\s)([A-Z][a-z]+|\d+(?:st|nd|rd|th))$", before)
    if named and named[1] not in _BEFORE_SAINTS:
        return "Street." if re.fullmatch(_BEGINNERS, found[2]) else "Street"
    return "Saint" if found[2][0].isupper() else found[0]


def _short(found: re.Match[str]) -> str:
    """The word in full; the dot stays where it ends the sentence as well."""
    after = found[2]
    ends = after is None or after.strip() == "" or after.strip()[:1].isupper()
    return _SHORTENED[found[1]] + ("." if ends else "")


def _roman(found: re.Match[str]) -> str:
    values = {"I": 1, "V": 5, "X": 10}
    digits = [values[letter] for letter in found[1]]
    following = [*digits[1:], 0]
    return str(sum(-one if one < after else one for one, after in zip(digits, following, strict=True)))
