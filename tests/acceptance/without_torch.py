"""Issue 2: the wheel, alone in a new environment, runs both bundles without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import photographs
import wheel
from checks import Context, Row, at_most, built, registry, true

FORBIDDEN = ("torch", "transformers", "onnx", "optimum", "sentence_transformers", "onnxscript", "huggingface_hub")
SCRIPT = """
import importlib.metadata, json, pathlib, sys
import sanderling

texts, images, photograph = sys.argv[1:]
answered = []
for variant in sanderling.open_bundle(texts).manifest.variants:
    with sanderling.load(texts, variant=variant) as model:
        answered.append(model("a bird at the edge").embedding.shape == (384,))
for variant in sanderling.open_bundle(images).manifest.variants:
    with sanderling.load(images, variant=variant) as model:
        answered.append(len(model(photograph).labels) == 5)
verified = [sanderling.verify(path).held for path in (texts, images)]

def size(distribution):
    files = distribution.files or []
    places = [pathlib.Path(distribution.locate_file(file)) for file in files]
    return sum(place.stat().st_size for place in places if place.is_file())

sizes = {d.metadata["Name"].lower(): size(d) for d in importlib.metadata.distributions()}
print(json.dumps({"answered": answered, "verified": verified, "modules": sorted(sys.modules), "sizes": sizes,
                  "home": sanderling.__file__}))
"""


@registry.check(2, "no-pytorch")
def no_pytorch(context: Context) -> list[Row]:
    texts, images = built("all-minilm-l6-v2"), built("efficientnet-lite0")
    python = wheel.environment(context, compiled=False)
    photograph = photographs.photographs()["chelsea.png"]
    found = json.loads(wheel.run(python, "-c", SCRIPT, str(texts), str(images), str(photograph), cwd=context.folder))
    assert Path(found["home"]).is_relative_to(context.folder), found["home"]
    heavy = sorted({name.partition(".")[0] for name in found["modules"]} & set(FORBIDDEN))
    own = found["sizes"]["sanderling"]
    total = sum(size for name, size in found["sizes"].items() if name not in ("pip", "setuptools", "wheel"))
    others = len(set(found["sizes"]) - {"sanderling", "pip", "setuptools", "wheel"})
    return [
        true(
            "wheel alone in a new environment: variants that answer",
            all(found["answered"]),
            f"{sum(found['answered'])} of {len(found['answered'])}",
            "all",
            spread="MiniLM and EfficientNet-Lite0",
        ),
        true(
            "the same: golden samples replayed",
            all(found["verified"]),
            f"{sum(found['verified'])} of {len(found['verified'])}",
            "all",
            spread="bundles verified",
        ),
        true(
            "the same: modules of the training stack",
            not heavy,
            str(len(heavy)),
            "0",
            spread=", ".join(heavy) or f"{len(found['modules'])} modules in all",
        ),
        at_most(
            "Sanderling itself, installed",
            own / 1e6,
            1.5,
            digits=2,
            unit=" MB",
            spread=f"{total / 1e6:.0f} MB with the {others} packages it pulls in",
        ),
    ]
