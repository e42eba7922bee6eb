"""Issue 7: answers to questions about pictures are transformers' token for token, at full size too, in three shapes: a
reader beside the picture (BLIP), a choice among answers (ViLT), a picture among the words (LLaVA)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import decoding
import numpy as np
from checks import ROOT, Context, Row, at_most, registry, true

from sanderling import ImageError, InputError, TextError, load
from sanderling.tasks.visual_questions import QuestionAnswerer

sys.path.insert(0, str(ROOT / "tests"))

# Questions, new tokens of each answer, and steps under teacher forcing.
SMALL, FULL, TOKENS, STEPS = 50, 4, 8, 6
ASKED = ("is it high?", "a bird?", "sea", "is the tide low?", "is a wave the edge?")


def blip_vqa_base(folder: Path) -> Path:
    """BLIP that answers questions in the size of its base, with random weights."""
    import tiny_generators
    import transformers

    tokenizer = tiny_generators.word_tokenizer()
    special = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = transformers.BlipTextConfig(vocab_size=len(tokenizer), encoder_hidden_size=768, **special)
    config = transformers.BlipConfig(text_config=text.to_dict(), vision_config={"image_size": 384})
    transformers.BlipImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)
    return decoding._saved(folder, transformers.BlipForQuestionAnswering(config), tokenizer)


class Beside:
    """One model in transformers and in its bundle, asked the same."""

    def __init__(self, context: Context, name: str) -> None:
        import tiny_generators
        import torch
        import transformers

        from sanderling_export.pipeline import export

        kinds = {
            "blip_vqa": "BlipForQuestionAnswering",
            "vilt": "ViltForQuestionAnswering",
            "llava": "LlavaForConditionalGeneration",
        }
        makers: dict[str, Callable[[Path], Path]] = {**tiny_generators.MAKERS, "blip_vqa-base": blip_vqa_base}
        torch.manual_seed(11)
        checkpoint = makers[name](context.folder / "checkpoints" / name)
        bundle = context.folder / "bundles" / name
        export(checkpoint, bundle, data=context.folder / "pictures", variants=("fp32",))
        self.kind = name.partition("-")[0]
        self.original = getattr(transformers, kinds[self.kind]).from_pretrained(checkpoint).eval()
        self.model: Any = load(bundle, variant="fp32")
        self._processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)

    def given(self, file: Path, question: str) -> dict[str, Any]:
        """What transformers is given."""
        from PIL import Image

        pixels = dict(self._processor(Image.open(file).convert("RGB"), return_tensors="pt"))
        if self.kind == "llava":
            count = self.model.bundle.manifest.postprocessing.picture.count
            question = f"USER: {'<image>' * count}\n{question} ASSISTANT:"
        read = self._tokenizer(question, return_tensors="pt")
        return {**pixels, "input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}

    def expected(self, file: Path, question: str, beams: int) -> list[int]:
        """New tokens of transformers."""
        import torch

        given = self.given(file, question)
        begun = given["input_ids"].shape[1] if self.kind == "llava" else 1
        with torch.inference_mode():
            found = self.original.generate(
                **given, max_new_tokens=TOKENS, num_beams=beams, do_sample=False, min_length=0
            )
        return decoding.until(found[0, begun:].tolist(), self.model.bundle.manifest.postprocessing.stop_token_ids)

    def apart(self, file: Path, question: str, tokens: list[int]) -> float:
        """The largest difference of any logit: of the answers, or of the steps while `tokens` are read one by one."""
        import torch

        given = self.given(file, question)
        with torch.inference_mode():
            if self.kind == "vilt":
                logits = self.original(**given).logits[0].numpy()
                return float(np.abs(self.model(file, question).logits - logits).max())
            if self.kind == "llava":
                ids = torch.cat([given["input_ids"], torch.tensor([tokens])], dim=1)
                logits = self.original(
                    input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=given["pixel_values"]
                ).logits
            else:
                seen = self.original.vision_model(given["pixel_values"])[0]
                read = self.original.text_encoder(
                    input_ids=given["input_ids"], attention_mask=given["attention_mask"], encoder_hidden_states=seen
                )[0]
                ids = torch.tensor([[*self.model.bundle.manifest.postprocessing.start_token_ids, *tokens]])
                logits = self.original.text_decoder(input_ids=ids, encoder_hidden_states=read, return_dict=True).logits
        start, held = self.model.begun(given["pixel_values"][0].numpy(), given["input_ids"][0].numpy())
        found = self.model.forced(np.array(tokens, np.int64), start, held)
        return float(np.abs(found - logits[0, len(start) - 1 : -1].numpy()).max())


@registry.check(7, "answers-parity")
def answers_parity(
    context: Context,
    small: int = SMALL,
    full: int = FULL,
    names: Sequence[str] = ("blip_vqa", "vilt", "llava", "blip_vqa-base"),
) -> list[Row]:
    rows = []
    files = decoding.pictures(context.folder / "pictures", max(small, 8))
    for name in names:
        context.say(name)
        beside = Beside(context, name)
        asked = [(file, ASKED[n % len(ASKED)]) for n, file in enumerate(files[: full if "-" in name else small])]
        if isinstance(beside.model, QuestionAnswerer):
            for beams, how in ((1, "greedy"), (4, "beam-4")):
                found = beside.model.generate(
                    [file for file, _ in asked], [question for _, question in asked],
                    max_new_tokens=TOKENS, num_beams=beams,
                )  # fmt: skip
                same = sum(
                    list(one.tokens) == beside.expected(*item, beams) for one, item in zip(found, asked, strict=True)
                )
                figure = f"{same} of {len(asked)}"
                rows.append(true(f"{name}: {how} answers as transformers'", same == len(asked), figure, "all"))
        draw = np.random.default_rng(5)
        forced = [draw.integers(6, 30, STEPS).tolist() for _ in asked]
        apart = [beside.apart(*item, following) for item, following in zip(asked, forced, strict=True)]
        spread = f"median {np.median(apart):.1e}, {len(asked)} questions"
        rows.append(at_most(f"{name}: logits, any number", max(apart), 1e-3, digits=6, spread=spread))
        beside.model.close()
    return rows


def _bad(model: QuestionAnswerer, picture: Any) -> Iterator[tuple[str, type[Exception], Callable[[], object]]]:
    ask: Any = model.generate
    given: list[tuple[str, type[Exception], tuple[Any, ...]]] = [
        ("an image as the question", TextError, ([picture], [picture])),
        ("no image", ImageError, (None, "dark?")),
        ("no question", InputError, (picture,)),
        ("an empty question", TextError, (picture, " ")),
        ("a question beyond the context", TextError, (picture, "is it " * 100_000)),
        ("no file", ImageError, ("no such file.png", "dark?")),
        ("bytes that are no image", ImageError, (b"no picture", "dark?")),
        ("more questions than pictures", InputError, ([picture, picture], ["a", "b", "c"])),
        ("a lone surrogate", TextError, (picture, "\ud800")),
    ]
    for what, kind, arguments in given:
        yield what, kind, lambda arguments=arguments: ask(*arguments)  # type: ignore[misc]


@registry.check(7, "answers-hostile")
def answers_hostile(context: Context) -> list[Row]:
    import tiny_language

    bundle = tiny_language.answerer_bundle(context.folder / "endless", max_new_tokens=10**6, min_new_tokens=10**6)
    picture = tiny_language.PICTURES["photo-1"]
    with load(bundle, threads=1) as model:
        assert isinstance(model, QuestionAnswerer)
        missed = [what for what, kind, call in _bad(model, picture) if not decoding.refused(kind, call)]
        never = [model.generate(picture, "dark?", num_beams=beams) for beams in (1, 3)]
        bounded = all(getattr(one, "finish_reason", "") == "context" for one in never)
    return [
        true("bad pictures and questions are typed errors", not missed, ", ".join(missed) or "all", "all"),
        true("an answer that never stops ends where the context does", bounded, str(bounded), "says so"),
    ]
