"""A tiny voice, made by hand: letters last as long as their place in the alphabet says, and hum.

The same graph is there whole, built as Piper's are (noise drawn inside, masks for batches), and in the three parts of a
bundle. What is expected of it is computed here in numpy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import Graph, _Build

from sanderling.manifest import Preprocessing
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.variants import TensorSpec, Tolerance
from sanderling.schema.voices import SpeechOutput, VoiceSettings

RATE, HOP, CHANNELS, NOISES, CONTEXT = 8000, 4, 4, 2, 1
LETTERS = " abcdefgh.,!?"
IDS = {symbol: (number + 3,) for number, symbol in enumerate(LETTERS)}
BEGIN, END, PAD = (1,), (2,), (0,)
_RANDOM = np.random.default_rng(20261122)
TABLE = _RANDOM.normal(size=(len(IDS) + 3, CHANNELS)).astype(np.float32)
LENGTHS = (1 + np.arange(len(IDS) + 3) % 4).astype(np.float32)
KERNEL = (_RANDOM.normal(size=(CHANNELS, 1, 2 * HOP)) / 4).astype(np.float32)
BEFORE = (_RANDOM.normal(size=(CHANNELS, CHANNELS, 1)) / 2).astype(np.float32)
SPREAD = np.float32(0.5)
# What is added before the decoder's activation, of each speaker.
SPEAKERS = _RANDOM.normal(size=(2, CHANNELS, 1)).astype(np.float32)
SETTINGS = PhonemesPreprocessing(
    alphabet="characters", ids=IDS, begin=BEGIN, end=END, pad=PAD, lowercase=True, max_symbols=40
)
HEAD = SpeechOutput(
    output="waveform",
    sample_rate=RATE,
    hop=HOP,
    context=CONTEXT,
    normalize="peak",
    settings=VoiceSettings(1.0, 0.5, 0.25),
)
GOLDEN = ("a bad cab.", "ha!")


def ids_of(sentence: str) -> NDArray[np.int64]:
    """The ids (1, tokens) of a sentence: begin, pad, then each letter with a pad, end."""
    found = [*BEGIN, *PAD]
    for letter in sentence.lower():
        found += [*IDS[letter], *PAD]
    return np.array([[*found, *END]], np.int64)


def noise(sentence: str, seed: int | None, place: int, settings: VoiceSettings) -> tuple[Any, Any]:
    """The drawn noise of a sentence: (1, 2, tokens), already scaled, and a function of the count of frames."""
    tokens = ids_of(sentence).shape[1]
    if seed is None:
        return np.zeros((1, NOISES, tokens), np.float32), lambda frames: np.zeros((1, CHANNELS, frames), np.float32)
    draw = np.random.RandomState([seed, place])
    first = (draw.standard_normal((tokens, NOISES)).T * settings.duration_noise).astype(np.float32)[None]
    return first, lambda frames: draw.standard_normal((frames, CHANNELS)).T.astype(np.float32)[None]


def reference(
    sentence: str,
    seed: int | None = None,
    place: int = 0,
    settings: VoiceSettings = HEAD.settings,
    speaker: int | None = None,
) -> Any:
    """The waveform (samples,) of a sentence before it is levelled."""
    ids = ids_of(sentence)[0]
    drawn, of_frames = noise(sentence, seed, place, settings)
    lasting = np.ceil((LENGTHS[ids] + np.abs(drawn[0]).sum(axis=0)) * np.float32(1 / settings.speed)).astype(int)
    mean = TABLE[ids].T.repeat(lasting, axis=1)
    latents = mean + of_frames(mean.shape[1])[0] * SPREAD * (settings.noise if seed is not None else 0)
    spectrum = 2 * latents + 1
    mixed = np.einsum("oi,if->of", BEFORE[:, :, 0], spectrum)
    inside = np.tanh(mixed if speaker is None else mixed + SPEAKERS[speaker])
    wave = np.zeros((mean.shape[1] + 1) * HOP)
    for frame in range(mean.shape[1]):
        wave[frame * HOP : (frame + 2) * HOP] += inside[:, frame] @ KERNEL[:, 0]
    half = HOP // 2
    return np.tanh(wave[half : half + mean.shape[1] * HOP]).astype(np.float32)


def levelled(wave: Any) -> Any:
    """A waveform whose largest magnitude is 1."""
    return wave / np.abs(wave).max(initial=1e-9)


def voice_bundle(target: Path, *, head: SpeechOutput = HEAD, settings: PhonemesPreprocessing = SETTINGS) -> Path:
    """`tiny-voice`, with golden sentences said without noise and with it, by the first of the speakers if there are."""
    graphs = _parts(several=bool(head.speakers))
    first = next(iter(head.speakers.values()), None)
    samples, tensors = [], {}
    for number, text in enumerate(GOLDEN, 1):
        for seed in (None, 7):
            name = f"sentence-{number}" + ("" if seed is None else "-noisy")
            symbols = tuple(text.lower())
            samples.append({"id": name, "text": text, "phonemes": symbols, "seed": seed})
            tensors[f"{name}.input.input_ids"] = ids_of(text)[0]
            tensors[f"{name}.output"] = reference(text, seed, speaker=first)
    with _Build(target) as build:
        components = {
            name: build.component(signature, {"fp32": graph}, {"fp32": Tolerance(0.9999, 1e-4)}, name)
            for name, (signature, graph) in graphs.items()
        }
        build.commit(
            "tiny-voice",
            ("multimodal", "text-to-speech"),
            components,
            Preprocessing(phonemes=settings),
            head,
            build.golden(samples, tensors),
        )
    return target


def piper_voice(folder: Path) -> Path:
    """The same voice as Piper writes them: `tiny.onnx` with `tiny.onnx.json`. Its scale of frames is e to the power of
    a constant, and its masks are computed from the count of ids."""
    nodes = [
        _node("Gather", ["scales", "zero"], "noise_scale"),
        _node("Gather", ["scales", "one"], "length_scale"),
        _node("Gather", ["scales", "two"], "noise_w"),
        _node("Shape", ["input"], "ids_shape"),
        _node("Gather", ["ids_shape", "one"], "tokens"),
        _node("Range", ["zero", "tokens", "one"], "numbers"),
        _node("Unsqueeze", ["input_lengths", "axis_1"], "lengths_column"),
        _node("Less", ["numbers", "lengths_column"], "there"),
        _node("Cast", ["there"], "there_floats", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["there_floats", "axis_1"], "x_mask"),
        _node("Unsqueeze", ["tokens", "axis_0"], "tokens_1"),
        _node("Concat", ["one_1", "two_1", "tokens_1"], "noise_shape", axis=0),
        _node("ConstantOfShape", ["noise_shape"], "like"),
        _node("RandomNormalLike", ["like"], "drawn"),
        _node("Mul", ["drawn", "noise_w"], "duration_noise"),
        *_durations("input", "gathered", mask="x_mask"),
        # The mask of frames, of a batch of one: as many ones as there are frames.
        _node("Cast", ["frame_numbers"], "frame_floats", to=TensorProto.FLOAT),
        _node("Less", ["frame_floats", "all_frames"], "frames_there"),
        _node("Cast", ["frames_there"], "y_mask_flat", to=TensorProto.FLOAT),
        _node("Reshape", ["y_mask_flat", "one_one_all"], "y_mask"),
        _node("Mul", ["gathered", "y_mask"], "prior_mean"),
        _node("RandomNormalLike", ["prior_mean"], "drawn_frames"),
        _node("Shape", ["prior_mean"], "mean_shape"),
        _node("Expand", ["log_spread", "mean_shape"], "logs"),
        _node("Exp", ["logs"], "prior_scale"),
        _node("Mul", ["drawn_frames", "prior_scale"], "noisy"),
        _node("Mul", ["noisy", "noise_scale"], "noisier"),
        _node("Add", ["prior_mean", "noisier"], "latents"),
        *_flow("latents", "unmasked"),
        _node("Mul", ["unmasked", "y_mask"], "spectrum"),
        *_decoder("spectrum", "sound"),
        _node("Unsqueeze", ["sound", "axis_1"], "output"),
    ]
    weights: dict[str, NDArray[Any]] = {
        **_durations_weights(),
        **_flow_weights(),
        **_decoder_weights(),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "one_1": np.array([1], np.int64),
        "two_1": np.array([NOISES], np.int64),
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
        "one_one_all": np.array([1, 1, -1], np.int64),
        "log_spread": np.log(np.full((1, 1, 1), SPREAD)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "voice",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "time", "samples"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "tiny.onnx"
    onnx.save(model, str(path))
    config = {
        "audio": {"sample_rate": RATE},
        "phoneme_type": "text",
        "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.25},
        "phoneme_id_map": {"^": BEGIN, "$": END, "_": PAD, **IDS},
        "num_speakers": 1,
        "speaker_id_map": {},
    }
    path.with_name("tiny.onnx.json").write_text(json.dumps(config), "utf-8")
    return path


def _parts(*, several: bool = False) -> dict[str, tuple[tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]], Graph]]:
    frames = {name: _floats(name, CHANNELS, "frames") for name in ("prior_mean", "prior_scale", "latents", "spectrum")}
    ids = TensorSpec("input_ids", "int64", (1, "tokens"))
    given = (ids, _floats("duration_noise", NOISES, "tokens"), TensorSpec("length_scale", "float32", (1,)))
    encoder = [
        *_durations("input_ids", "prior_mean"),
        _node("Shape", ["prior_mean"], "mean_shape"),
        _node("Expand", ["spread", "mean_shape"], "prior_scale"),
    ]
    decoder = [*_decoder("spectrum", "raw", several=several), _node("Reshape", ["raw", "flat"], "waveform")]
    told = (TensorSpec("speaker_id", "int64", (1,)),) if several else ()
    speakers = {"speakers": SPEAKERS} if several else {}
    return {
        "encoder": (
            (given, (frames["prior_mean"], frames["prior_scale"])),
            (encoder, {**_durations_weights(), "spread": np.full((1, 1, 1), SPREAD)}),
        ),
        "flow": (((frames["latents"],), (frames["spectrum"],)), (_flow("latents", "spectrum"), _flow_weights())),
        "decoder": (
            ((frames["spectrum"], *told), (TensorSpec("waveform", "float32", (1, "samples")),)),
            (decoder, {**_decoder_weights(), **speakers, "flat": np.array([1, -1], np.int64)}),
        ),
    }


def _durations(ids: str, target: str, mask: str | None = None) -> list[onnx.NodeProto]:
    """From ids, `duration_noise` and `length_scale` to `target` (1, channels, frames)."""
    masked = [_node("Mul", ["lasting_all", mask], "lasting_masked")] if mask else []
    return [
        _node("Gather", ["lengths", ids], "lasting_flat"),
        _node("Unsqueeze", ["lasting_flat", "middle"], "lasting_plain"),
        _node("Abs", ["duration_noise"], "loudness"),
        _node("ReduceSum", ["loudness", "middle"], "longer"),
        _node("Add", ["lasting_plain", "longer"], "lasting_longer"),
        _node("Mul", ["lasting_longer", "length_scale"], "lasting_all"),
        *masked,
        _node("Ceil", ["lasting_masked" if mask else "lasting_all"], "lasting"),
        _node("Reshape", ["lasting", "everything"], "lasting_row"),
        _node("CumSum", ["lasting_row", "first_axis"], "ends"),
        _node("ReduceSum", ["lasting_row"], "all_frames", keepdims=0),
        _node("Cast", ["all_frames"], "frames", to=TensorProto.INT64),
        _node("Range", ["none", "frames", "single"], "frame_numbers"),
        _node("Cast", ["frame_numbers"], "frame_places", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["frame_places", "middle"], "frame_column"),
        _node("GreaterOrEqual", ["frame_column", "ends"], "past"),
        _node("Cast", ["past"], "past_numbers", to=TensorProto.INT64),
        _node("ReduceSum", ["past_numbers", "middle"], "whose", keepdims=0),
        _node("Gather", ["table", ids], "looked_up"),
        _node("Transpose", ["looked_up"], "columns", perm=[0, 2, 1]),
        _node("Gather", ["columns", "whose"], target, axis=2),
    ]


def _durations_weights() -> dict[str, NDArray[Any]]:
    return {
        "lengths": LENGTHS,
        "table": TABLE,
        "middle": np.array([1], np.int64),
        "everything": np.array([-1], np.int64),
        "first_axis": np.array(0, np.int64),
        "none": np.array(0, np.int64),
        "single": np.array(1, np.int64),
    }


def _flow(source: str, target: str) -> list[onnx.NodeProto]:
    return [_node("Conv", [source, "double", "more"], target)]


def _flow_weights() -> dict[str, NDArray[Any]]:
    return {"double": 2 * np.eye(CHANNELS, dtype=np.float32)[:, :, None], "more": np.ones(CHANNELS, np.float32)}


def _decoder(source: str, target: str, *, several: bool = False) -> list[onnx.NodeProto]:
    by_speaker = [
        _node("Gather", ["speakers", "speaker_id"], "added"),
        _node("Add", ["mixed", "added"], "own"),
    ]
    return [
        _node("Conv", [source, "before"], "mixed"),
        *(by_speaker if several else []),
        _node("Tanh", ["own" if several else "mixed"], "bounded"),
        _node("ConvTranspose", ["bounded", "kernel"], "sounding", strides=[HOP], pads=[HOP // 2, HOP // 2]),
        _node("Tanh", ["sounding"], target),
    ]


def _decoder_weights() -> dict[str, NDArray[Any]]:
    return {"before": BEFORE, "kernel": KERNEL}


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes)


def _floats(name: str, channels: int, axis: str) -> TensorSpec:
    return TensorSpec(name, "float32", (1, channels, axis))


def without_noise(settings: VoiceSettings = HEAD.settings) -> VoiceSettings:
    """The same settings with nothing drawn."""
    return replace(settings, noise=0.0, duration_noise=0.0)
