"""Real texts of all lengths, and hard ones."""

from __future__ import annotations

import hashlib
import json

from checks import DATA, NotCheckableError


def sentences() -> list[str]:
    """Every sentence of the sentiment data, in an order that depends on the sentences alone."""
    files = sorted((DATA / "sentiment").glob("*.tsv"))
    if not files:
        raise NotCheckableError(f"There are no texts in {DATA / 'sentiment'}; SANDERLING_DATA names another folder.")
    found = set()
    for path in files:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        column = lines[0].split("\t").index("text")
        found |= {line.split("\t")[column].strip() for line in lines[1:]}
    return sorted(found - {""}, key=lambda text: hashlib.sha256(text.encode()).digest())


def of_all_lengths(count: int = 500) -> list[str]:
    """`count` texts: three of five are single sentences, the others are joined from 2 up to 200 of them."""
    source = sentences()
    singles = count * 3 // 5
    texts = source[:singles]
    position = singles
    joined = count - singles
    for number in range(joined):
        size = round(2 * 100 ** (number / max(1, joined - 1)))
        texts.append(" ".join(source[(position + offset) % len(source)] for offset in range(size)))
        position += size
    return texts


def hard() -> dict[str, str]:
    """Texts on which tokenizers, truncation and padding go wrong, by name."""
    return {
        "empty": "",
        "one space": " ",
        "one character": "a",
        "one digit": "7",
        "punctuation": "?!... --- ;;",
        "emoji": "🐦🏖️ running 👩‍👩‍👧‍👦 along 🏳️‍🌈 the edge",
        "flags and skin tones": "🇳🇿🇩🇪👍🏽👍🏿",
        "Chinese": "三趾滨鹬沿着海浪的边缘奔跑，寻找食物。",
        "Japanese": "ミユビシギは波打ち際を走る。カタカナとひらがなと漢字。",
        "Korean": "세가락도요가 파도를 따라 달린다.",
        "Arabic": "يركض طائر الدريجة على حافة الأمواج بحثًا عن الطعام.",
        "Hebrew": "החוף ריק, והציפורים רצות לאורך קו המים.",
        "mixed directions": "The bird \u202eרץ לאורך\u202c the edge \u2067ריק\u2069 again",
        "Hindi": "समुद्र के किनारे छोटा पक्षी दौड़ता है।",
        "Thai without spaces": "นกตัวเล็กวิ่งไปตามขอบคลื่นที่ชายหาด",
        "accents composed": "Café naïve façade Ångström Žižek",
        "accents decomposed": "Cafe\u0301 nai\u0308ve fac\u0327ade A\u030angstro\u0308m",
        "many combining marks": "z" + "\u0301\u0302\u0303\u0304" * 40,
        "control characters": "one\x01two\x02three\x1b[31mred\x7f end\x85next",
        "NUL": "before\x00after\x00\x00",
        "only NUL": "\x00",
        "replacement character": "broken \ufffd\ufffd text",
        "private use": "\ue000\ue001 \U0010fffd",
        "zero width": "zero\u200bwidth\u200djoined\ufeffmark",
        "odd spaces": "a\u00a0b\u2003c\u3000d\u2028e\u2029f",
        "new lines and tabs": "one\ntwo\r\nthree\tfour\v\ffive",
        "special tokens": "[CLS] a text that names [SEP] and [MASK] and [PAD] itself [UNK]",
        "upper case": "THE TIDE IS OUT AND THE BIRDS ARE LOUD",
        "Turkish capitals": "İSTANBUL'DA DIŞARI ÇIKTIK",
        "mathematics": "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−L|<ε 𝔄𝔅ℂ ½ ² ™",
        "a long word": "incomprehensibilities" * 40,
        "a long number": "31415926535897932384626433832795" * 30,
        "a URL": "https://example.org/a/b?c=d&e=%F0%9F%90%A6#fragment-with-dashes",
        "code": 'def f(x):\n    return {"k": [x ** 2 for _ in range(3)]}  # done',
        "JSON": json.dumps({"key": ["value", None, 1.5e-9, {"nested": "é"}]}),
        "HTML": "<p class='a'>a &amp; b<br/></p><script>alert(1)</script>",
        "3,000 words": " ".join(" ".join(sentences()).split()[:3000]),
        "exactly the limit": "tide " * 254,
        "one over the limit": "tide " * 255,
        "the same word": "wave " * 3000,
    }
