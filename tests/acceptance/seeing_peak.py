"""One process that sees with a model, for its memory: run as a script with who (`ours`, or a precision of torch), what
(`images` or `captions`), the model's folder, a variant, a folder of pictures, and new tokens.

Shows every picture alone, then all at once, and prints the most bytes that were resident meanwhile.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sanderling_bench.child import peak_memory


def ours(what: str, folder: str, variant: str, files: list[Path], tokens: int) -> None:
    import sanderling

    with sanderling.load(folder, variant=variant) as model:
        seeing: Any = model
        for given in (*files, files):
            if what == "images":
                seeing.embed_images(given)
            else:
                seeing.generate(given, max_new_tokens=tokens, min_new_tokens=tokens)


def theirs(dtype: str, what: str, folder: str, files: list[Path], tokens: int) -> None:
    import seeing_peers

    peer = seeing_peers.Seeing(Path(folder), dtype)
    for given in (*([file] for file in files), files):
        peer.images(given) if what == "images" else peer.captions(given, tokens)


def main() -> None:
    who, what, folder, variant, pictures, tokens = sys.argv[1:]
    files = sorted(Path(pictures).iterdir())
    if who == "ours":
        ours(what, folder, variant, files, int(tokens))
    else:
        theirs(who, what, folder, files, int(tokens))
    print(peak_memory())


if __name__ == "__main__":
    main()
