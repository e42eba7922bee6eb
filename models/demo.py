"""First light: two checkpoints to bundles, answers, and a latency table, on this machine.

Run it with `make demo`. Each command it runs is printed first, as one would type it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

import sanderling

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ROOT / "models" / "bundles"
MINILM = BUNDLES / "all-minilm-l6-v2"
EFFICIENTNET = BUNDLES / "efficientnet-lite0"

QUERY = "Where can I see wading birds?"
SENTENCES = (
    "The train to the airport leaves every twenty minutes.",
    "At low tide, sanderlings chase the waves along the beach.",
    "Bread needs flour, water, salt and time.",
    "The salt marsh north of the harbour is full of redshanks and curlews.",
    "Quantization stores the weights of a network in fewer bits.",
    "She has played the cello since she was six.",
    "Bring binoculars: the hide overlooks the mudflats where dunlins feed.",
    "The museum is closed on Mondays.",
)


def main() -> None:
    command("export", "all-minilm-l6-v2")
    command("export", "efficientnet-lite0")
    nearest_sentences()
    photograph_labels()
    for bundle in (MINILM, EFFICIENTNET):
        command("bench", bundle.relative_to(ROOT).as_posix())
    say("\nThe bundles are in models/bundles. Nothing in them, and nothing that runs them, needs PyTorch.")


def nearest_sentences() -> None:
    """The three sentences nearest to a query."""
    say(f"\nThe three sentences nearest to: {QUERY}")
    with sanderling.load(MINILM) as model:
        vectors = model(SENTENCES).embeddings
        similarity = vectors @ model(QUERY).embedding
    for index in np.argsort(-similarity)[:3]:
        say(f"  {similarity[index]:.3f}  {SENTENCES[index]}")


def photograph_labels() -> None:
    """The top five labels of a photograph that scikit-image ships."""
    package = importlib.util.find_spec("skimage")
    assert package is not None, "make demo installs scikit-image"
    assert package.origin is not None
    photograph = Path(package.origin).parent / "data" / "chelsea.png"
    say(f"\nThe top five labels of {photograph.name}, a photograph of a cat:")
    with sanderling.load(EFFICIENTNET) as model:
        answer = model(photograph)
    for label, score in zip(answer.labels, answer.scores, strict=True):
        say(f"  {score:.3f}  {label}")


def command(*arguments: str) -> None:
    """Print a command line of ours and run it; the demo ends where it fails."""
    say(f"\n$ sanderling {' '.join(arguments)}")
    done = subprocess.run([sys.executable, "-m", "sanderling", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
