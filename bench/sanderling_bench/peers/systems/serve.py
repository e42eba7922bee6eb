"""One contestant as a process: reads requests, one JSON object a line, and answers each with one line.

Arguments: the contestant's file, the folder of the models, its load settings as JSON, the file of the inputs. When
it has loaded and answered the first input it says `{"ready": true}`. Then it takes
`{"do": "all", "first": i, "count": n, "call": {...}, "to": file}` (n inputs from i in one call; the rows go to the
file), `{"do": "each", "first": i, "count": n, "of": m, "warmup": k}` (one input a call, of the first m around),
`{"do": "memory"}` and `{"do": "end"}`.
Seconds are of the calls alone. Between requests it waits in a read, and burns nothing of its own.
"""

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any


def main() -> None:
    # What a library prints must not end up among the answers: file descriptor 1 becomes standard error.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    try:
        contestant, folder, settings, inputs = sys.argv[1:]
        items = read_inputs(Path(inputs))
        answer = imported("contestant", Path(contestant)).load(Path(folder), json.loads(settings))
        answer(items[:1])
        replies.write('{"ready": true}\n')
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "end":
                return
            replies.write(json.dumps(serve(request, answer, items)) + "\n")
    except Exception as error:
        traceback.print_exc()
        words = " ".join(str(error).split())[:300]
        replies.write(json.dumps({"error": f"{type(error).__name__}: {words}"}) + "\n")


def serve(request: dict[str, Any], answer: Callable[..., Any], items: Sequence[Any]) -> dict[str, Any]:
    """Carry out one request; what to reply."""
    if request["do"] == "all":
        given = items[request["first"] :][: request["count"]]
        begin = perf_counter()
        rows = answer(given, **request["call"])
        seconds = perf_counter() - begin
        if request["to"]:
            import numpy

            numpy.save(request["to"], numpy.asarray(rows, numpy.float32))
        return {"seconds": seconds}
    if request["do"] == "each":
        taken = []
        for number in range(-request["warmup"], request["count"]):
            given = [items[(request["first"] + number) % request["of"]]]
            begin = perf_counter()
            answer(given)
            taken.append(perf_counter() - begin)
        return {"seconds": taken[request["warmup"] :]}
    if request["do"] == "memory":
        # The bench's own way to read it, which imports nothing else.
        return {"bytes": imported("child", Path(__file__).parents[2] / "child.py").peak_memory()}
    raise ValueError(f"no such request: {request}")


def read_inputs(path: Path) -> list[Any]:
    """Texts of a JSON list; of an .npz file its arrays (height, width, 3), uint8, as PIL images."""
    if path.suffix == ".json":
        return list(json.loads(path.read_text(encoding="utf-8")))
    import numpy
    from PIL import Image

    with numpy.load(path) as arrays:
        return [Image.fromarray(arrays[name]) for name in arrays.files]


def imported(name: str, path: Path) -> ModuleType:
    """The module in a file, by no name that could hide a library's."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
