"""Issue 7: decoding is transformers' token for token, at full size too; what is hostile ends bounded or typed; threads
do not mix, and memory stays."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checks import ROOT, Context, Row, at_most, registry, true

from sanderling import Cancellation, CancelledError, InputError, TextError, load
from sanderling.tasks.image_to_text import ImageToText
from sanderling.tasks.text_generation import TextGenerator
from sanderling_bench.inputs import standard_texts

sys.path.insert(0, str(ROOT / "tests"))

# Inputs, and new tokens of each: of models of random weights in small, and in the size that people use.
SMALL, SMALL_TOKENS = 50, 24
FULL, FULL_TOKENS = 4, 12
STEPS = 8
LOOPS = 1000
# The vocabulary that BLIP was trained with.
BLIP_WORDS = 30_524


def gpt2_small(folder: Path) -> Path:
    """GPT-2 in its smallest real size, 124 million parameters, with random weights."""
    import transformers

    config = transformers.GPT2Config(vocab_size=300, bos_token_id=0, eos_token_id=0)
    return _saved(folder, transformers.GPT2LMHeadModel(config))


def blip_base(folder: Path, words: int = 0) -> Path:
    """BLIP in the size of its base, with random weights; with so many `words`, most of them no tokenizer's."""
    import tiny_generators
    import transformers

    tokenizer = tiny_generators.word_tokenizer()
    special = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = transformers.BlipTextConfig(vocab_size=words or len(tokenizer), encoder_hidden_size=768, **special)
    config = transformers.BlipConfig(text_config=text.to_dict(), vision_config={"image_size": 384})
    transformers.BlipImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)
    return _saved(folder, transformers.BlipForConditionalGeneration(config), tokenizer)


def _saved(folder: Path, model: Any, tokenizer: Any = None) -> Path:
    import tiny_generators

    model.eval().save_pretrained(folder)
    (tokenizer or tiny_generators.byte_tokenizer()).save_pretrained(folder)
    return folder


def texts_file(folder: Path) -> Path:
    file = folder / "lines.txt"
    file.write_text("\n".join(text.replace("\n", " ") for text in standard_texts(40)), encoding="utf-8")
    return file


def pictures(folder: Path, count: int) -> list[Path]:
    """Pictures of waves of all sizes, none square."""
    from PIL import Image

    folder.mkdir()
    draw = np.random.default_rng(7)
    found = []
    for index in range(count):
        height, width = (int(side) for side in draw.integers(60, 300, 2))
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / draw.uniform(3, 30) + y / draw.uniform(3, 30)) * 90 + 128 for _ in range(3)]
        found.append(folder / f"picture-{index}.png")
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(found[-1])
    return found


def made(context: Context, name: str) -> tuple[Path, Path]:
    """The checkpoint and the bundle of an architecture in fp32."""
    import tiny_generators
    import torch

    from sanderling_export.pipeline import export

    makers: dict[str, Callable[[Path], Path]] = {
        **tiny_generators.MAKERS,
        "gpt2-124M": gpt2_small,
        "blip-base": blip_base,
    }
    torch.manual_seed(11)
    checkpoint = makers[name](context.folder / "checkpoints" / name)
    speaks = name.startswith(("gpt2", "llama"))
    data = texts_file(context.folder) if speaks else context.folder / "pictures"
    bundle = context.folder / "bundles" / name
    export(checkpoint, bundle, data=data, variants=("fp32",))
    return checkpoint, bundle


def until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return next((tokens[: place + 1] for place, token in enumerate(tokens) if token in ends), tokens)


class Beside:
    """One model in transformers and in its bundle: new tokens and logits of the same inputs."""

    def __init__(self, context: Context, name: str) -> None:
        import transformers

        self.checkpoint, self.bundle = made(context, name)
        kinds = {"blip": "BlipForConditionalGeneration", "paired": "VisionEncoderDecoderModel"}
        kind = getattr(transformers, kinds.get(name.partition("-")[0], "AutoModelForCausalLM"))
        self.original = kind.from_pretrained(self.checkpoint).eval()
        self.model: Any = load(self.bundle, variant="fp32")
        assert isinstance(self.model, TextGenerator | ImageToText)
        self.speaks = isinstance(self.model, TextGenerator)
        self.ends = self.model.bundle.manifest.postprocessing.stop_token_ids
        tool = transformers.AutoTokenizer if self.speaks else transformers.AutoImageProcessor
        self._tool = tool.from_pretrained(self.checkpoint, **({} if self.speaks else {"use_fast": False}))

    def given(self, item: Any) -> dict[str, Any]:
        """What transformers is given for an input."""
        from PIL import Image

        if self.speaks:
            # Without token types, which tokenizers of this class give and causal models do not mean.
            return dict(self._tool(item, return_tensors="pt", return_token_type_ids=False))
        return {"pixel_values": self._tool(Image.open(item).convert("RGB"), return_tensors="pt")["pixel_values"]}

    def expected(self, item: Any, tokens: int, beams: int) -> list[int]:
        """New tokens of transformers."""
        import torch

        given = self.given(item)
        begun = given["input_ids"].shape[1] if self.speaks else 1
        more = {"pad_token_id": 0} if self.speaks else {}
        with torch.inference_mode():
            found = self.original.generate(
                **given, max_new_tokens=tokens, num_beams=beams, do_sample=False, min_length=0, **more
            )
        return until(found[0, begun:].tolist(), self.ends)

    def apart(self, item: Any, tokens: list[int]) -> float:
        """The largest difference of any logit while `tokens` are read one by one."""
        import torch

        given = self.given(item)
        if self.speaks:
            start, held = given["input_ids"][0].numpy(), None
            ids = torch.tensor([[*start.tolist(), *tokens]])
            with torch.inference_mode():
                logits = self.original(input_ids=ids).logits
        else:
            start, held = self.model.start, self.model.held(given["pixel_values"].numpy())
            ids = torch.tensor([[*start.tolist(), *tokens]])
            with torch.inference_mode():
                if hasattr(self.original, "text_decoder"):
                    states = self.original.vision_model(**given)[0]
                    logits = self.original.text_decoder(
                        input_ids=ids, encoder_hidden_states=states, return_dict=True
                    ).logits
                else:
                    logits = self.original(**given, decoder_input_ids=ids).logits
        found = self.model.forced(np.array(tokens, np.int64), start, held)
        return float(np.abs(found - logits[0, len(start) - 1 : -1].numpy()).max())


def inputs(context: Context, beside: Beside, count: int) -> list[Any]:
    if not beside.speaks:
        return sorted((context.folder / "pictures").glob("*.png"))[:count]
    return [" ".join(text.split()[: 1 + place % 6])[:30] for place, text in enumerate(standard_texts(count))]


@registry.check(7, "decoding-parity")
def decoding_parity(
    context: Context,
    small: int = SMALL,
    full: int = FULL,
    names: Sequence[str] = ("gpt2", "llama", "blip", "paired", "gpt2-124M", "blip-base"),
) -> list[Row]:
    rows = []
    pictures(context.folder / "pictures", max(small, 4))
    for name in names:
        large = "-" in name
        count, tokens = (full, FULL_TOKENS) if large else (small, SMALL_TOKENS)
        context.say(name)
        beside = Beside(context, name)
        items = inputs(context, beside, count)
        for beams, how in ((1, "greedy"), (4, "beam-4")):
            same = 0
            for item in items:
                found = beside.model.generate(item, max_new_tokens=tokens, num_beams=beams)
                same += list(found.tokens) == beside.expected(item, tokens, beams)
            figure = f"{same} of {len(items)}"
            rows.append(true(f"{name}: {how} sequences as transformers'", same == len(items), figure, "all"))
        draw = np.random.default_rng(5)
        vocabulary = beside.model.bundle.manifest.postprocessing.vocabulary
        forced = [draw.integers(0, vocabulary, STEPS).tolist() for _ in items]
        apart = [beside.apart(item, following) for item, following in zip(items, forced, strict=True)]
        spread = f"median {np.median(apart):.1e}, {len(items)} inputs of {STEPS} steps"
        rows.append(
            at_most(f"{name}: logits under teacher forcing, any number", max(apart), 1e-3, digits=6, spread=spread)
        )
        beside.model.close()
    return rows


def refused(kind: type[Exception], call: Callable[[], object]) -> bool:
    """Whether a call raises an error of this kind that says more than a word."""
    try:
        call()
    except kind as error:
        return len(str(error)) > 20
    return False


def resident() -> float:
    """Megabytes of this process that are resident now."""
    import psutil

    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def _bad_inputs(model: TextGenerator) -> Iterator[tuple[str, type[Exception], Callable[[], object]]]:
    long = "wave " * 200_000
    given: list[tuple[str, Any]] = [
        ("a prompt beyond the context", long), ("an empty prompt", ""), ("bytes", b"sea"), ("a number", 7),
        ("a lone surrogate", "\ud800"), ("nothing", None),
    ]  # fmt: skip
    for what, prompt in given:
        yield what, TextError, lambda prompt=prompt: model.generate(prompt)  # type: ignore[misc]
    settings: list[dict[str, Any]] = [
        {"max_new_tokens": -1}, {"temperature": float("nan")}, {"num_beams": 10**9}, {"top_p": -1.0},
        {"stop": ""}, {"unknown": 1}, {"seed": -5},
    ]  # fmt: skip
    for options in settings:
        yield f"the setting {options}", InputError, lambda options=options: model.generate("a", **options)  # type: ignore[misc]


@registry.check(7, "decoding-hostile")
def decoding_hostile(context: Context, loops: int = LOOPS) -> list[Row]:
    import tiny_language

    bundle = tiny_language.language_bundle(context.folder / "endless", ends=())
    rows = []
    with load(bundle, threads=1) as model:
        assert isinstance(model, TextGenerator)
        missed = [what for what, kind, call in _bad_inputs(model) if not refused(kind, call)]
        rows.append(true("bad input and settings are typed errors", not missed, ", ".join(missed) or "all", "all"))
        never = [model.generate("sea", max_new_tokens=10**6, num_beams=beams) for beams in (1, 3)]
        bounded = all(one.finish_reason == "context" and len(one.tokens) == model.context - 3 for one in never)
        rows.append(true("a decoder that never stops ends where the context does", bounded, str(bounded), "says so"))
        rows.append(_cancelled(model))
        context.say("threads")
        rows.append(_mixed(model))
        context.say(f"{loops:,} generations")
        rows.append(_grown(model, loops))
    return rows


def _cancelled(model: TextGenerator) -> Row:
    """The tokens that still come once a stream was cancelled."""
    late = []
    for count in range(1, 12):
        cancellation = Cancellation()
        stream = model.stream("sea", max_new_tokens=40, cancellation=cancellation)
        read = 0
        try:
            for _ in stream:
                read += 1
                if read == count:
                    cancellation.cancel()
        except CancelledError:
            late.append(read - count)
    spread = f"{len(late)} of 11 streams ended so"
    held = len(late) >= 10 and max(late) <= 1
    return true("pieces that come after a cancellation", held, str(max(late, default=-1)), "at most 1", spread=spread)


def _mixed(model: TextGenerator) -> Row:
    prompts = ["sea", "wave after wave", "bird"]
    ways: list[dict[str, Any]] = [{}, {"num_beams": 3}, {"do_sample": True, "seed": 4}]
    known = [[model.generate(prompt, max_new_tokens=16, **way).tokens for way in ways] for prompt in prompts]
    wrong: list[str] = []

    def work(place: int) -> None:
        for _ in range(10):
            found = [model.generate(prompts[place], max_new_tokens=16, **way).tokens for way in ways]
            if found != known[place]:
                wrong.append(prompts[place])

    threads = [threading.Thread(target=work, args=(place % 3,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return true("six threads generate at once, each its own text", not wrong, f"{len(wrong)} mixed", "none")


def _grown(model: TextGenerator, loops: int) -> Row:
    """Memory after many generations, some of them left in the middle, beside that after the first hundred."""

    def run(count: int) -> None:
        for place in range(count):
            model.generate("the tide", max_new_tokens=12, num_beams=1 + place % 3)
            stream = model.stream("the tide", max_new_tokens=12)
            next(stream, None)

    run(max(10, loops // 10))
    first = resident()
    begun = time.perf_counter()
    run(loops)
    last = resident()
    spread = f"{first:.1f} to {last:.1f} MB, {loops:,} generations in {time.perf_counter() - begun:.0f} s"
    return at_most("resident memory: growth in megabytes", last - first, 4.0, digits=2, spread=spread)
