"""Issue 8: what is said is written down as by the original, with the words that were said; sounds of every kind are
read or refused; and how fast, beside faster-whisper."""

from __future__ import annotations

import csv
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
from alternated import share_of_time
from checks import DATA, ROOT, Context, NotCheckableError, Row, at_most, built, registry, true
from numpy.typing import NDArray

from sanderling import Audio, SanderlingError, Voice, load
from sanderling.audio_wave import wave_bytes
from sanderling.decode.speech import TIME_STEP
from sanderling.preprocess.audio import decoded
from sanderling.schema.generation import GenerationOutput
from sanderling.tasks.speech_recognition import SpeechRecognizer

sys.path.insert(0, str(ROOT / "tests"))

RATE = 16_000
WRONG_WORDS = 2
MEL_APART, LOGITS_APART = 5e-5, 1e-3
RANDOM_SOUNDS = 20
# Sounds that shapes are compared on: each is filled up to thirty seconds.
SHAPE_SOUNDS = 4
INT8 = "int8-dynamic"
# Of faster-whisper's time, with the CPU provider alone: of the clips, and of a recording of minutes.
SHARE_OF_THEIRS, SHARE_OF_LONG = 0.55, 0.5
CLIP_ROUNDS, LONG_ROUNDS = 9, 3
MINUTES, PAUSE = 10, 0.6
SENTENCES = (Path(__file__).parent / "data" / "spoken_sentences.txt").read_text("utf-8").splitlines()
FOUR_HOURS = 4 * 3600


def clips() -> dict[Path, str]:
    """The recorded clips, and what is said in each."""
    folder = DATA / "speech"
    if not (folder / "transcripts.tsv").is_file():
        raise NotCheckableError(f"The clips are not in {folder}.")
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        return {folder / row["file"]: row["text"] for row in csv.DictReader(file, delimiter="\t")}


def whisper(**options: Any) -> SpeechRecognizer:
    """The built Whisper base, loaded with these options."""
    model = load(built("whisper-base"), **options)
    assert isinstance(model, SpeechRecognizer)
    return model


def original() -> Any:
    """The same weights in transformers."""
    from sanderling_export.checkpoint import resolve
    from sanderling_export.recipe import read_recipe
    from sanderling_export.speech import ctranslate

    path = ROOT / "models" / "whisper-base.toml"
    recipe = read_recipe(path)
    found = ctranslate.model(resolve(recipe.checkpoint, path.parent, recipe.distributions, recipe.parts))
    return found.eval()


@registry.check(8, "speech spectrograms")
def spectrograms(context: Context) -> list[Row]:
    from transformers import WhisperFeatureExtractor

    from sanderling.preprocess.mel import MelFilter
    from sanderling.schema.sounds import LogMel

    random = np.random.default_rng(8)
    sounds = [decoded(path, RATE)[0] for path in clips()]
    lengths = [1, 2, 159, 160, 161, 479_839, 479_840, 480_000, *random.integers(1, 480_000, RANDOM_SOUNDS).tolist()]
    sounds += [random.normal(0, 10 ** random.uniform(-4, -0.5), length).astype(np.float32) for length in lengths]
    rows = []
    for bands in (80, 128):
        ours, theirs = MelFilter(LogMel(400, 160, bands, 3000), RATE), WhisperFeatureExtractor(feature_size=bands)
        apart = []
        for sound in sounds:
            expected = theirs(sound, sampling_rate=RATE, return_tensors="np").input_features[0]
            apart.append(float(np.abs(ours(sound) - expected).max()))
        rows.append(
            at_most(
                f"log-mel of {bands} bands beside transformers', largest difference", max(apart), MEL_APART, digits=7,
                spread=f"{len(apart)} sounds, median {np.median(apart):.1e}",
            )
        )  # fmt: skip
        context.say(f"{bands} bands")
    return rows


@registry.check(8, "speech words and tokens")
def words_and_tokens(context: Context) -> list[Row]:
    import torch
    from transformers import WhisperFeatureExtractor

    from sanderling_bench.words import word_errors

    known = clips()
    rows = []
    ways: dict[str, dict[str, Any]] = {
        "fp32": {"variant": "fp32"},
        "int8": {"variant": INT8},
        "the plan of this machine": {},
        "int8, short windows": {"variant": INT8, "window": "short"},
    }
    for way, options in ways.items():
        with whisper(**options) as model:
            found = [model.transcribe(path, language="en").text for path in known]
            plan = model.plan
        errors = word_errors(found, list(known.values()))
        context.say(way)
        rows.append(
            at_most(
                f"wrong words of the clips, {way}", errors.wrong, WRONG_WORDS, digits=0,
                spread=f"of {errors.total}, {len(known)} clips; {plan.variant} on {plan.provider}",
            )
        )  # fmt: skip
    theirs, extractor = original(), WhisperFeatureExtractor()
    with whisper(variant="fp32") as model:
        _told_tokens(theirs, model)
        first_time = theirs.generation_config.no_timestamps_token_id + 1
        for timed in (False, True):
            same = 0
            for path in known:
                sound, report = decoded(path, RATE)
                features = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
                with torch.inference_mode():
                    given = theirs.generate(
                        features, language="en", task="transcribe", return_timestamps=timed, do_sample=False
                    )[0].tolist()  # fmt: skip
                words = [token for token in given if token < theirs.config.eos_token_id]
                times = [(token - first_time) * TIME_STEP for token in given if token >= first_time]
                ours = model.transcribe(path, language="en", timestamps=timed, temperatures=(0,))
                edges = [edge for one in ours.segments for edge in (one.start, one.end)]
                # The last time may lie behind the sound's end, in the silence that was added.
                expected = np.minimum(times, report.seconds)
                alike = not timed or (len(edges) == len(times) and np.allclose(edges, expected, atol=1e-6))
                same += [token for one in ours.segments for token in one.tokens] == words and alike
            context.say(f"tokens beside transformers', times {timed}")
            rows.append(
                true(
                    f"greedy tokens are transformers', {'with' if timed else 'without'} times", same == len(known),
                    f"{same} of {len(known)}", "all clips",
                )
            )  # fmt: skip
    return rows


def _told_tokens(theirs: Any, model: SpeechRecognizer) -> None:
    """Give transformers' original what a converted folder does not state: the numbers of its special tokens."""
    head = model.bundle.manifest.postprocessing
    assert isinstance(head, GenerationOutput)
    assert head.speech is not None
    tokens = head.speech
    config = theirs.generation_config
    config.lang_to_id = {f"<|{code}|>": number for code, number in tokens.languages.items()}
    config.task_to_id = {"transcribe": tokens.transcribe, "translate": tokens.translate}
    config.no_timestamps_token_id = tokens.no_timestamps
    config.prev_sot_token_id = tokens.previous


@registry.check(8, "speech small shapes")
def small_shapes(context: Context) -> list[Row]:
    """Whisper tiny, small and distil-small in full, with random weights and a small vocabulary, one after the other."""
    import shutil

    import tiny_speech
    import torch
    import transformers

    from sanderling_export.pipeline import export

    rows = []
    recordings = context.folder / "recordings"
    recordings.mkdir()
    sounds = tiny_speech.sounds(SHAPE_SOUNDS)
    for number, sound in enumerate(sounds):
        sound.save(recordings / f"{number}.wav")
    for shape, sizes in tiny_speech.FULL.items():
        folder = context.folder / shape
        checkpoint = tiny_speech.whisper(folder / "checkpoint", sizes)
        bundle = export(checkpoint, folder / "bundle", data=recordings, variants=("fp32",), keep_failing=True)
        context.say(f"{shape} exported")
        theirs = transformers.WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
        weights = sum(parameter.numel() for parameter in theirs.parameters())
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(checkpoint)
        apart = []
        with load(bundle, variant="fp32") as model:
            assert isinstance(model, SpeechRecognizer)
            following = np.arange(11, 23)
            for sound in sounds:
                features = extractor(sound.samples, sampling_rate=RATE, return_tensors="pt").input_features
                ids = torch.tensor([[*model.start.tolist(), *following.tolist()]])
                with torch.inference_mode():
                    expected = theirs(input_features=features, decoder_input_ids=ids).logits[0].numpy()
                feeds, _ = model.front.feeds([sound])
                found = model.forced(following, model.start, model.held(feeds["input_features"]))
                begun = len(model.start) - 1
                apart.append(float(np.abs(found - expected[begun : begun + len(found)]).max()))
        rows.append(
            at_most(f"logits of Whisper {shape}'s shape, largest difference", max(apart), LOGITS_APART, digits=6,
                    spread=f"{len(apart)} sounds of {len(following)} tokens; {weights / 1e6:.0f} million weights")
        )  # fmt: skip
        context.say(f"{shape}: {max(apart):.1e}")
        del theirs
        shutil.rmtree(folder)
    return rows


def hostile() -> dict[str, Any]:
    """Sounds that are none, or hardly: by name, what is handed over."""
    whole = wave_bytes(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), RATE)[0]

    def header(kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
        width = channels * bits // 8
        made = struct.pack("<HHIIHH", kind, channels, rate, (rate * width) % 2**32, width % 2**16, bits)
        return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(made)) + made + b"data\xff\xff\xff\x7f"

    loud = np.where(np.arange(RATE) % 200 < 100, 1.0, -1.0).astype(np.float32)
    return {
        "silence": Audio(np.zeros(3 * RATE, np.float32), RATE),
        "not a number": Audio(np.full(RATE, np.nan, np.float32), RATE),
        "clipping": Audio(loud, RATE),
        "0 samples": Audio(np.zeros(0, np.float32), RATE),
        "1 sample": Audio(np.zeros(1, np.float32), RATE),
        "a rate of 1 Hz": Audio(np.zeros(100, np.float32), 1),
        "a rate of 44,100 Hz": Audio(loud, 44_100),
        "a length that lies": header() + bytes(2000),
        "0 channels": header(channels=0) + bytes(2000),
        "60,000 channels": header(channels=60_000) + bytes(2000),
        "ADPCM that is none": header(kind=2, bits=4) + bytes(2000),
        "truncated in its header": whole[:30],
        "truncated in its samples": whole[:20_001],
        "no bytes": b"",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "a list of nothing": [None],
        "an array without a rate": loud,
    }


@registry.check(8, "speech bad input")
def bad_input(context: Context) -> list[Row]:
    outcomes: dict[str, str] = {}
    with whisper(variant=INT8) as model:
        for name, given in hostile().items():
            try:
                found = model.transcribe(given, language="en", temperatures=(0,), max_new_tokens=40)
                outcomes[name] = "answered" if len(getattr(found, "text", "")) < 1000 else "endless"
            except SanderlingError as error:
                outcomes[name] = "refused" if str(error).strip().endswith((".", ")", '"')) else f"no advice: {error}"
            except Exception as error:
                outcomes[name] = f"{type(error).__name__}: {error}"
            context.say(f"{name}: {outcomes[name][:80]}")
    wrong = {name: what for name, what in outcomes.items() if what not in ("answered", "refused")}
    context.say("four hours")
    silence = context.folder / "hours.wav"
    with wave.open(str(silence), "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(1)
        written.setframerate(8000)
        for _ in range(FOUR_HOURS):
            written.writeframes(bytes([128]) * 8000)
    samples, report = decoded(silence, 8000)
    return [
        true("sounds that are none, or hardly: a typed error or a bounded answer", not wrong,
             f"{len(outcomes) - len(wrong)} of {len(outcomes)}", "all", spread=str(wrong)[:200] if wrong else ""),
        true("four hours are read whole", len(samples) == FOUR_HOURS * 8000 and report.complete,
             f"{report.seconds / 3600:.1f} h", "4 h"),
    ]  # fmt: skip


@registry.check(8, "speech beside faster-whisper")
def beside_faster_whisper(context: Context) -> list[Row]:
    from sanderling_bench.words import word_errors

    known = clips()
    theirs = faster_whisper(context.folder)
    sounds = [decoded(clip, RATE)[0] for clip in known]
    said = list(known.values())

    def of_theirs() -> list[str]:
        found = []
        for sound in sounds:
            segments, _ = theirs.transcribe(sound, beam_size=1, language="en", without_timestamps=True)
            found.append(" ".join(segment.text for segment in segments))
        return found

    rows = []
    other = word_errors(of_theirs(), said)
    for window in ("full", "short"):
        with whisper(variant=INT8, provider="cpu", threads=2, window=window) as model:

            def of_ours(model: SpeechRecognizer = model) -> list[str]:
                return [model.transcribe(Audio(sound, RATE), language="en").text for sound in sounds]

            ours = word_errors(of_ours(), said)
            context.say(f"{window} windows")
            what = f"{window} windows: share of faster-whisper int8's time, CPU provider, 2 threads"
            rows += [
                share_of_time(what, of_ours, of_theirs, SHARE_OF_THEIRS, CLIP_ROUNDS),
                at_most(f"{window} windows: wrong words, beside faster-whisper's", ours.wrong, other.wrong, digits=0),
            ]
    return rows


def faster_whisper(folder: Path) -> Any:
    """The same weights in faster-whisper, int8, on two threads."""
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise NotCheckableError("faster-whisper is not installed here: pip install faster-whisper.") from error
    from sanderling_export.checkpoint import resolve
    from sanderling_export.recipe import read_recipe

    path = ROOT / "models" / "whisper-base.toml"
    recipe = read_recipe(path)
    checkpoint = resolve(recipe.checkpoint, path.parent, recipe.distributions, recipe.parts)
    theirs = folder / "theirs"
    theirs.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (theirs / name).write_bytes((checkpoint.folder / name).read_bytes())
    (theirs / "model.bin").write_bytes(b"".join(part.read_bytes() for part in checkpoint.parts))
    return WhisperModel(str(theirs), device="cpu", compute_type="int8", cpu_threads=2)


def recording(seconds: float) -> tuple[Audio, str]:
    """The clips and sentences that a voice says, in turn, with a pause behind each, until it is so long; and its words.

    Every round of the clips has other sentences between, as long as there are any.
    """
    known = clips()
    with load(built("joe-medium")) as voice:
        assert isinstance(voice, Voice)
        spoken = [
            (Audio(one.audio, one.sample_rate), text) for one, text in zip(voice(SENTENCES), SENTENCES, strict=True)
        ]
    made = [(decoded(sound, RATE)[0], text) for sound, text in spoken]
    recorded = [(decoded(path, RATE)[0], text) for path, text in known.items()]
    pause = np.zeros(int(PAUSE * RATE), np.float32)
    parts: list[NDArray[np.float32]] = []
    words: list[str] = []
    length, place = 0, 0
    while length < seconds * RATE:
        pair = recorded[place // 2 % len(recorded)] if place % 2 == 0 else made[place // 2 % len(made)]
        parts += [pair[0], pause]
        words.append(pair[1])
        length, place = length + len(pair[0]) + len(pause), place + 1
    return Audio(np.concatenate(parts), RATE), " ".join(words)


@registry.check(8, "speech of ten minutes beside faster-whisper")
def minutes(context: Context) -> list[Row]:
    """Clips and a voice's sentences joined, with voice activity and times: how long it takes, and what is lost."""
    from sanderling_bench.words import word_errors

    long, said = recording(MINUTES * 60)
    theirs = faster_whisper(context.folder)

    def of_theirs() -> str:
        segments, _ = theirs.transcribe(long.samples, beam_size=1, language="en", vad_filter=True)
        return " ".join(segment.text for segment in segments)

    with whisper(variant=INT8, provider="cpu", threads=2) as model:
        found = model.transcribe(long, language="en", timestamps=True)
        context.say("written down once")
        ours, other = word_errors([found.text], [said]), word_errors([of_theirs()], [said])
        row = share_of_time(
            f"share of faster-whisper's time, {long.seconds / 60:.0f} minutes with voice activity and times",
            lambda: model.transcribe(long, language="en", timestamps=True), of_theirs, SHARE_OF_LONG, LONG_ROUNDS,
        )  # fmt: skip
    times = [time for one in found.segments for time in (one.start, one.end)]
    return [
        row,
        at_most(
            "word error rate beside faster-whisper's", ours.rate, other.rate, digits=4,
            spread=f"{ours.wrong} and {other.wrong} of {ours.total} words",
        ),
        true(
            "segments are in order and within the sound", times == sorted(times) and times[-1] <= found.report.seconds,
            f"{len(found.segments)} segments", "in order",
        ),
    ]  # fmt: skip
