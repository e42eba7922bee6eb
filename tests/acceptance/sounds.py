"""Issue 8: models that hear with a single graph, and Moonshine, in the shapes of the real ones with random weights:
what is answered is the original's; windows of a long sound lose no frame; what is no sound is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from checks import ROOT, Context, Row, at_most, registry, true

from sanderling import Audio, CtcRecognizer, SanderlingError, WaveRecognizer, load

sys.path.insert(0, str(ROOT / "tests"))

RATE = 16_000
LOGITS_APART, VECTORS_APART, BANDS_APART = 1e-3, 1e-3, 5e-5
# Seconds of the sounds that are compared.
LENGTHS = (0.4, 1.7, 6.1)


def compared() -> list[Audio]:
    """Made-up voices of several lengths."""
    from sanderling_export.speech import sounds

    return [Audio(sounds.voice(RATE, 40 + n).samples[: int(s * RATE)], RATE) for n, s in enumerate(LENGTHS)]


def recordings(folder: Path) -> Path:
    """Sounds that an export is measured on: short, since the shapes are those of the real models."""
    from sanderling_export.speech import sounds

    folder.mkdir(parents=True)
    for seed in range(3):
        Audio(sounds.voice(RATE, seed).samples[: 2 * RATE], RATE).save(folder / f"{seed}.wav")
    return folder


def checkpoint(folder: Path, library: str, *, large: bool = False, **more: Any) -> Path:
    """A checkpoint of a class of transformers in the base shape, or in the way of the large models (layer norms)."""
    import torch
    import transformers

    kind = getattr(transformers, library)
    torch.manual_seed(8)
    if large:
        more |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    config = kind.config_class(**more)
    kind(config).eval().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=large).save_pretrained(folder)
    return folder


def exported(context: Context, name: str, make: Callable[[Path], Path]) -> tuple[Path, Path]:
    """The checkpoint and its bundle in fp32."""
    from sanderling_export.pipeline import export

    source = make(context.folder / name / "checkpoint")
    data = recordings(context.folder / name / "recordings")
    bundle = export(source, context.folder / name / "bundle", data=data, variants=("fp32",), keep_failing=True)
    context.say(f"{name} exported")
    return source, bundle


def original(source: Path, library: Any, sound: Audio) -> Any:
    """What transformers answers, by its own feature extractor."""
    import torch
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    given = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt")
    with torch.inference_mode():
        return library(given.input_values)


@registry.check(8, "frames to words")
def frames_to_words(context: Context) -> list[Row]:
    import tiny_sounds
    import transformers

    def make(large: bool) -> Callable[[Path], Path]:
        def made(folder: Path) -> Path:
            checkpoint(folder, "Wav2Vec2ForCTC", large=large, vocab_size=32, pad_token_id=0)
            (folder / "vocab.json").write_text(json.dumps(tiny_sounds.VOCABULARY))
            transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
            return folder

        return made

    rows = []
    for name, large in (("base", False), ("base with an attention mask", True)):
        source, bundle = exported(context, name.replace(" ", "-"), make(large))
        library = transformers.AutoModelForCTC.from_pretrained(source).eval()
        tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(source)
        apart, same = [], 0
        with load(bundle, variant="fp32") as model:
            assert isinstance(model, CtcRecognizer)
            for sound in compared():
                expected = original(source, library, sound).logits[0].numpy()
                (found,) = model.answer([sound]).rows
                apart.append(float(np.abs(found - expected).max()))
                heard = model.transcribe(sound)
                ids = expected.argmax(axis=1)
                kept = [int(t) for t, before in zip(ids, [-1, *ids[:-1]], strict=True) if t != before and t != 0]
                text = tokenizer.decode(ids)
                for special in ("<s>", "</s>", "<unk>"):
                    text = text.replace(special, "")
                tokens = [token for segment in heard.segments for token in segment.tokens]
                # Without a word there is no segment, and the tokens that part words are in none.
                same += heard.text == text.strip() and tokens == (kept if heard.segments else [])
        rows += [
            at_most(f"logits of wav2vec 2.0 CTC, {name}, largest difference", max(apart), LOGITS_APART, digits=7,
                    spread=f"{len(apart)} sounds"),
            true(f"tokens and texts are transformers', {name}", same == len(apart), f"{same} of {len(apart)}", "all"),
        ]  # fmt: skip
    return rows


@registry.check(8, "long sound by frames")
def long_sound(context: Context) -> list[Row]:
    """Through the tiny shape: how much memory and how many frames an hour takes, and whether any is lost."""
    import tiny_sounds

    from sanderling.hearing import ctc
    from sanderling.memory import resident

    _, bundle = exported(context, "hour", lambda folder: tiny_sounds.recognizer(folder))
    noise = np.random.default_rng(8).normal(0, 0.1, 60 * RATE).astype(np.float32)
    hour = Audio(np.tile(noise, 60), RATE)
    with load(bundle, variant="fp32") as model:
        assert isinstance(model, CtcRecognizer)
        head: Any = model.bundle.manifest.postprocessing
        model.transcribe(Audio(noise, RATE))
        before = resident()
        found = model.transcribe(hour, words=True)
        grown = resident() - before
    frames = ctc.frames_of(len(hour.samples), head)
    parts = list(ctc.stretches(len(hour.samples), head))
    kept = sum(part.end - part.begin for part in parts)
    ends = [word.end for word in found.words]
    return [
        true("an hour is heard whole, each frame once", kept == frames, f"{kept:,} of {frames:,}", "all",
             spread=f"{len(parts)} windows"),
        at_most("memory that an hour adds, MB", grown / 2**20, 2 * hour.samples.nbytes / 2**20, digits=0,
                spread="bound: twice its samples"),
        true("words are in order and within the sound", ends == sorted(ends) and ends[-1] <= hour.seconds,
             f"{len(ends):,} words", "in order"),
    ]  # fmt: skip


@registry.check(8, "classes and vectors of sounds")
def classes_and_vectors(context: Context) -> list[Row]:
    import torch
    import transformers

    def spectrograms(folder: Path) -> Path:
        torch.manual_seed(8)
        transformers.ASTForAudioClassification(transformers.ASTConfig(num_labels=527)).eval().save_pretrained(folder)
        transformers.ASTFeatureExtractor().save_pretrained(folder)
        return folder

    classifier, vectors = transformers.AutoModelForAudioClassification, transformers.AutoModelForAudioXVector
    kinds: dict[str, tuple[Callable[[Path], Path], Any, str]] = {
        "HuBERT classifier": (
            lambda folder: checkpoint(folder, "HubertForSequenceClassification", num_labels=12), classifier, "logits"
        ),
        "Audio Spectrogram Transformer": (spectrograms, classifier, "logits"),
        "WavLM x-vectors": (lambda folder: checkpoint(folder, "WavLMForXVector"), vectors, "embeddings"),
        "wav2vec 2.0, mean of the frames": (
            lambda folder: checkpoint(folder, "Wav2Vec2Model"), transformers.AutoModel, "last_hidden_state"
        ),
    }  # fmt: skip
    rows = []
    for name, (make, library, output) in kinds.items():
        source, bundle = exported(context, name.replace(" ", "-").replace(",", ""), make)
        theirs = library.from_pretrained(source).eval()
        apart = []
        with load(bundle, variant="fp32") as model:
            for sound in compared():
                expected = getattr(original(source, theirs, sound), output)[0]
                if output == "last_hidden_state":
                    expected = expected.mean(dim=0)
                elif output == "embeddings":
                    expected = torch.nn.functional.normalize(expected, dim=0)
                apart.append(float(np.abs(model.answer([sound]).rows[0] - expected.numpy()).max()))
        bound = LOGITS_APART if output == "logits" else VECTORS_APART
        rows.append(at_most(f"{name}, largest difference", max(apart), bound, digits=7, spread=f"{len(apart)} sounds"))
    return rows


@registry.check(8, "bands of sounds")
def bands(context: Context) -> list[Row]:
    import transformers

    from sanderling.hearing.sound_front import SoundFront
    from sanderling.schema.sounds import AudioPreprocessing, Filterbank

    extractor = transformers.ASTFeatureExtractor()
    settings = Filterbank(400, 160, 512, 128, 1024, mean=extractor.mean, divisor=2 * extractor.std)
    front = SoundFront(AudioPreprocessing(RATE, settings), 1)
    random = np.random.default_rng(8)
    lengths = [400, 559, 560, 1023 * 160 + 400, 1024 * 160 + 400, *random.integers(400, 20 * RATE, 20).tolist()]
    apart = []
    for length in lengths:
        sound = random.normal(0, 10 ** random.uniform(-4, -0.5), length).astype(np.float32)
        expected = extractor(sound, sampling_rate=RATE, return_tensors="np").input_values[0]
        feeds, _ = front.feeds([Audio(sound, RATE)])
        apart.append(float(np.abs(feeds["input_values"][0] - expected).max()))
    context.say("compared")
    return [
        at_most("bands beside the Audio Spectrogram Transformer's extractor, largest difference", max(apart),
                BANDS_APART, digits=7, spread=f"{len(apart)} sounds, median {np.median(apart):.1e}")
    ]  # fmt: skip


@registry.check(8, "Moonshine")
def moonshine(context: Context) -> list[Row]:
    import tiny_sounds
    import torch
    import transformers

    def make(folder: Path) -> Path:
        """Moonshine tiny's shape, transformers' defaults, but for the vocabulary: that of a small tokenizer."""
        words = tiny_sounds.byte_tokenizer()
        torch.manual_seed(8)
        config = transformers.MoonshineConfig(
            vocab_size=len(words), initializer_range=0.05, pad_token_id=2, max_position_embeddings=194
        )
        found = transformers.MoonshineForConditionalGeneration(config).eval()
        found.generation_config = transformers.GenerationConfig(
            decoder_start_token_id=1, bos_token_id=1, eos_token_id=2, pad_token_id=2, max_length=40
        )
        found.save_pretrained(folder)
        words.save_pretrained(folder)
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
        extractor.save_pretrained(folder)
        return folder

    source, bundle = exported(context, "moonshine", make)
    theirs = transformers.MoonshineForConditionalGeneration.from_pretrained(source).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    following = np.arange(11, 23)
    apart, same = [], 0
    with load(bundle, variant="fp32") as model:
        assert isinstance(model, WaveRecognizer)
        for sound in compared():
            given = extractor(sound.samples, sampling_rate=RATE, return_tensors="pt")
            with torch.inference_mode():
                written = theirs.generate(**given, do_sample=False)[0].tolist()[1:]
                ids = torch.tensor([[1, *following.tolist()]])
                expected = theirs(input_values=given.input_values, decoder_input_ids=ids).logits[0].numpy()
            found = model.forced(following, model.start, model.held(sound.samples[None]))
            apart.append(float(np.abs(found - expected[: len(found)]).max()))
            ours = [token for segment in model.transcribe(sound).segments for token in segment.tokens]
            same += ours == [token for token in written if token != 2]
    return [
        at_most("logits of Moonshine tiny's shape, largest difference", max(apart), LOGITS_APART, digits=7,
                spread=f"{len(apart)} sounds of {len(following)} tokens"),
        true("greedy tokens are transformers'", same == len(apart), f"{same} of {len(apart)}", "all"),
    ]  # fmt: skip


@registry.check(8, "sounds that are none")
def bad_input(context: Context) -> list[Row]:
    import speech
    import tiny_sounds

    outcomes: dict[str, str] = {}
    kinds: dict[str, Callable[[Path], Path]] = {
        "frames": tiny_sounds.recognizer,
        "classes": lambda folder: tiny_sounds.saved(folder, "WavLMForSequenceClassification"),
        "bands": tiny_sounds.spectrogram_transformer,
        "speakers": lambda folder: tiny_sounds.saved(folder, "Wav2Vec2ForXVector"),
        "moonshine": tiny_sounds.moonshine,
    }
    for kind, make in kinds.items():
        _, bundle = exported(context, f"bad-{kind}", make)
        with load(bundle, variant="fp32") as model:
            call: Any = model
            for name, given in speech.hostile().items():
                try:
                    call(given)
                    outcomes[f"{kind}, {name}"] = "answered"
                except SanderlingError as error:
                    advice = str(error).strip().endswith((".", ")", '"'))
                    outcomes[f"{kind}, {name}"] = "refused" if advice else f"no advice: {error}"
                except Exception as error:
                    outcomes[f"{kind}, {name}"] = f"{type(error).__name__}: {error}"
    wrong = {name: what for name, what in outcomes.items() if what not in ("answered", "refused")}
    return [
        true("sounds that are none, or hardly: a typed error or a bounded answer", not wrong,
             f"{len(outcomes) - len(wrong)} of {len(outcomes)}", "all", spread=str(wrong)[:200] if wrong else ""),
    ]  # fmt: skip
