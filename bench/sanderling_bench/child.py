"""What a fresh process does to be measured: run as a script, it imports Sanderling alone and times itself.

Arguments: `cold` or `memory`, the bundle, the variant, the provider, the threads, the modality, the component (empty:
all of them), and how many tokens each text gets that the model writes (0: it writes none).
Standard input brings the inputs, each led by its length as 8 little-endian bytes. `cold` answers the first input and
prints the seconds of import, load and answer; `memory` answers each input, then all at once, and prints the peak in
bytes.
"""

import sys
from time import perf_counter
from typing import Any


def main() -> None:
    mode, path, variant, provider, threads, kind, component, tokens = sys.argv[1:]
    options = {"max_new_tokens": int(tokens), "min_new_tokens": int(tokens)} if int(tokens) else {}
    inputs = _inputs(sys.stdin.buffer.read(), kind)
    begin = perf_counter()
    import sanderling

    imported = perf_counter()
    model: Any = sanderling.load(
        path, variant=variant, provider=provider, threads=int(threads), components=component or None
    )
    loaded = perf_counter()
    model(inputs[0], **options)
    answered = perf_counter()
    if mode == "cold":
        print(imported - begin, loaded - imported, answered - loaded, flush=True)  # noqa: T201
        return
    for item in inputs:
        model(item, **options)
    model(inputs, **options)
    print(peak_memory(), flush=True)  # noqa: T201


def _inputs(raw: bytes, kind: str) -> list[str | bytes]:
    if kind not in ("text", "image"):
        import json  # of what is measured after this, only models of numbers have it imported before
    found: list[str | bytes] = []  # and what JSON has for rows and series
    position = 0
    while position < len(raw):
        start = position + 8
        position = start + int.from_bytes(raw[position:start], "little")
        item = raw[start:position]
        found.append(item if kind == "image" else item.decode() if kind == "text" else json.loads(item))
    return found


def peak_memory() -> int:
    """The most memory this process had resident, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":
        # Not ru_maxrss: on Linux it starts at the size of the process that spawned this one (it outlives exec).
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
