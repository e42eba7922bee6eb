"""What meets a hostile bundle or input, in a process of its own: run as a script with a bundle and a case's name.

Prints one JSON object: the name of the error raised (or "answered"), whether it is a SanderlingError, its message,
the seconds of load and answer, and the most memory resident in bytes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

import sanderling
from sanderling.errors import SanderlingError
from sanderling_bench.child import peak_memory


def pixels(height: int = 40, width: int = 60, channels: int = 3) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def not_contiguous_is_copied(model: Any) -> None:
    array = pixels(80, 120)
    for strange in (array[::2, ::2], array[:, ::-1], np.asfortranarray(array), array.transpose(1, 0, 2)):
        plain = np.ascontiguousarray(strange)
        assert np.array_equal(model(strange).logits, model(plain).logits)


def ten_megabytes(model: Any) -> None:
    report = model("the tide comes in and the tide goes out " * 262_144).report
    assert not report.complete, report
    assert report.tokens_lost > 0


def ten_megabytes_in_one_word(model: Any) -> None:
    assert not model("a" * 10_485_760).report.complete


def a_plain_text(model: Any) -> None:
    assert np.isfinite(model("a bird at the edge").embedding).all()


def a_plain_image(model: Any) -> None:
    assert np.isfinite(model(pixels()).logits).all()


# For each case what is done with the loaded model. A value that is no function is handed to the model as input.
TEXTS: dict[str, Any] = {
    "plain text": a_plain_text,
    "lone surrogate": "before \ud83d after",
    "lone surrogate in a list": ["fine", "\udc80"],
    "number": 7,
    "nothing": None,
    "bytes": b"text",
    "list of numbers": [1, 2],
    "array of numbers": np.zeros(3, np.float32),
    "dict": {"text": "a"},
    "unknown prompt": lambda model: model("a", prompt="no such prompt"),
    "10 MB of words": ten_megabytes,
    "10 MB in one word": ten_megabytes_in_one_word,
}
IMAGES: dict[str, Any] = {
    "plain image": a_plain_image,
    "array that is not contiguous": not_contiguous_is_copied,
    "float array": np.zeros((8, 9, 3), np.float32),
    "array with NaN": np.full((8, 9, 3), np.nan, np.float32),
    "int64 array": np.zeros((8, 9, 3), np.int64),
    "bool array": np.zeros((8, 9), bool),
    "object array": np.full((8, 9, 3), None),
    "array of rank 0": np.uint8(7) * np.ones((), np.uint8),
    "array of rank 1": np.zeros(9, np.uint8),
    "array of rank 4": np.zeros((2, 8, 9, 3), np.uint8),
    "array of 2 channels": np.zeros((8, 9, 2), np.uint8),
    "array of 5 channels": np.zeros((8, 9, 5), np.uint8),
    "array of 0 pixels": np.zeros((0, 9, 3), np.uint8),
    "array of 0 columns": np.zeros((9, 0), np.uint8),
    "number": 7,
    "nothing": None,
    "no such file": "no/such/file.png",
    "name with NUL": "a\0b.png",
    "empty bytes": b"",
    "random bytes": bytes(range(256)) * 40,
    "text bytes": b"not an image at all",
    "top_k of 0": lambda model: model(pixels(), top_k=0),
}
# Cases of which something must come: an answer, and no error.
ANSWERED = {
    "plain text",
    "plain image",
    "10 MB of words",
    "10 MB in one word",
    "array that is not contiguous",
}


def main() -> None:
    folder, case, *files = sys.argv[1:]
    begin = time.perf_counter()
    try:
        model: Any = sanderling.load(folder, threads=2)
        # An image file that the caller made; else the case of that name.
        given = files[0] if files else {**TEXTS, **IMAGES}[case] if case in TEXTS or case in IMAGES else None
        if model.modality == "text" and case in TEXTS:
            given = TEXTS[case]
        begin = time.perf_counter()
        if callable(given):
            given(model)
        else:
            model(given)
        found, typed, message = "answered", True, ""
    except BaseException as error:
        found, typed, message = type(error).__name__, isinstance(error, SanderlingError), str(error)
    seconds = time.perf_counter() - begin
    print(json.dumps([found, typed, message, seconds, peak_memory()]))


if __name__ == "__main__":
    main()
