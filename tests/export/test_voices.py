"""Voices at export: a graph as Piper writes them cut in three, its noise given, and the bundle that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_voices
from msgspec.structs import replace
from onnx import numpy_helper
from tiny_voices import HOP, IDS, levelled, reference

pytest.importorskip("torch")

import sanderling
from sanderling import Voice, open_bundle, verify
from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.variants import Distances, Drift, Metric
from sanderling.schema.voices import SpeechOutput
from sanderling_export import graphs, pipeline
from sanderling_export.recipe import Floor
from sanderling_export.settings import Settings
from sanderling_export.voices import hiss, imported, mel, piper, planes, quality, surgery

SENTENCES = ("a bad cab.", "ha!", "each bed, dead.")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_voices.piper_voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def voice(graph: Path) -> imported.PiperOriginal:
    return imported.load(graph)


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("seed", [None, 7])
def test_the_original_says_what_numpy_says(voice: imported.PiperOriginal, text: str, seed: int | None) -> None:
    ids, wave = voice.waveform(tuple(text), seed)
    np.testing.assert_array_equal(ids, tiny_voices.ids_of(text)[0])
    np.testing.assert_allclose(wave, reference(text, seed), atol=1e-5)


def test_the_json_file_is_read(voice: imported.PiperOriginal) -> None:
    assert voice.said.phonemes.alphabet == "characters"
    assert (voice.said.sample_rate, voice.hop, voice.context) == (tiny_voices.RATE, HOP, tiny_voices.CONTEXT)
    assert (voice.said.settings.noise, voice.said.settings.duration_noise) == (0.5, 0.25)


def test_masks_are_left_out_and_all_else_is_kept(graph: Path, voice: imported.PiperOriginal) -> None:
    model = onnx.load(str(graph))
    places = surgery.find(model)
    assert surgery.crossing(model, places) == {"y_mask"}
    inputs = {name: {value.name for value in part.graph.input} for name, part in voice.parts.items()}
    assert inputs == {
        "encoder": {"input_ids", "duration_noise", "length_scale"},
        "flow": {"latents"},
        "decoder": {"spectrum"},
    }
    assert not any(node.op_type == "RandomNormalLike" for part in voice.parts.values() for node in part.graph.node)


def test_convolutions_in_two_dimensions_say_the_same(voice: imported.PiperOriginal) -> None:
    decoder = voice.parts["decoder"]
    made = planes.flattened(decoder)
    assert made is not None
    assert {len(w.dims) for w in made.graph.initializer if w.name in ("before", "kernel")} == {4}
    frames = np.random.default_rng(1).normal(size=(1, tiny_voices.CHANNELS, 30)).astype(np.float32)
    (before,), (after,) = (graphs.session(one).run(None, {"spectrum": frames}) for one in (decoder, made))
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert planes.compare(decoder, made).value > 0


def test_graphs_that_mind_a_row_more_are_left_alone(voice: imported.PiperOriginal) -> None:
    strange = graphs.copied(voice.parts["decoder"])
    node = next(node for node in strange.graph.node if node.op_type == "Tanh")
    node.op_type = "Softmax"
    assert planes.flattened(strange) is None
    assert planes.flattened(voice.parts["encoder"]) is None


def test_a_voice_becomes_a_bundle(graph: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a bad cab had a bad bed. each bag faded.\nha!\na face, a fad!\nbead deaf cage.\n", "utf-8")
    target = pipeline.export(graph, tmp_path / "tiny", variants=("fp32", "int8-static"), data=texts, keep_failing=True)
    bundle = open_bundle(target)
    head = bundle.manifest.postprocessing
    assert isinstance(head, SpeechOutput)
    assert (head.sample_rate, head.hop, head.context) == (tiny_voices.RATE, HOP, tiny_voices.CONTEXT)
    assert bundle.manifest.variants == ("fp32", "int8-static")
    fp32 = bundle.manifest.components["decoder"].variants["fp32"]
    assert fp32.drift is not None
    assert fp32.drift.cosine.min > 0.99999
    assert fp32.drift.metrics["log_mel_distance"].value < 0.01
    assert fp32.drift.metrics["log_mel_distance"].value <= fp32.drift.metrics["log_mel_distance_max"].value < 0.02
    assert fp32.invariance is not None
    assert fp32.invariance.batch > 0.999999
    encoder = bundle.manifest.components["encoder"].variants
    assert encoder["int8-static"].forms == encoder["fp32"].forms
    assert verify(target, variants=["fp32"], provider="cpu").held
    with sanderling.load(target, variant="fp32") as model:
        assert isinstance(model, Voice)
        for text in SENTENCES:
            np.testing.assert_allclose(model(text, seed=3).audio, levelled(reference(text, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("audio"), "audio"),
        (lambda c: c.update(phoneme_type="pinyin"), "pinyin"),
        (lambda c: c.update(phoneme_type="espeak"), "espeak"),
        (lambda c: c["phoneme_id_map"].pop("^"), r"'\^'"),
        (lambda c: c["audio"].update(sample_rate=-1), "sample_rate"),
        (lambda c: c["inference"].update(length_scale=0), "length_scale"),
        (lambda c: c["inference"].update(noise_scale=-3.0), "noise"),
        (lambda c: c.update(vowel_clusters=[["x"]]), "clusters"),
    ],
)
def test_a_wrong_json_file_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    path = tiny_voices.piper_voice(tmp_path)
    config = json.loads(piper.config_of(path).read_text("utf-8"))
    change(config)
    piper.config_of(path).write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match=said):
        piper.read(path)


def test_a_graph_without_its_json_file_is_refused(tmp_path: Path) -> None:
    path = tiny_voices.piper_voice(tmp_path)
    piper.config_of(path).unlink()
    with pytest.raises(CheckpointError, match=r"tiny\.onnx\.json"):
        pipeline.export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    path = tiny_voices.piper_voice(tmp_path)
    whole = onnx.load(str(path))

    def saved(change: Any) -> Path:
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        change(model.graph)
        onnx.save(model, str(path))
        return path

    def no_noise(made: Any) -> None:
        node = next(node for node in made.node if node.op_type == "RandomNormalLike")
        node.op_type = "Identity"

    def no_mask(made: Any) -> None:
        half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
        made.initializer.append(half)
        node = next(node for node in made.node if "y_mask" in node.output)
        node.output[0] = "y_mask_whole"
        place = list(made.node).index(node)
        made.node.insert(place + 1, onnx.helper.make_node("Mul", ["y_mask_whole", "half"], ["y_mask"]))

    with pytest.raises(CheckpointError, match="draw noise"):
        imported.load(saved(no_noise))
    with pytest.raises(CheckpointError, match="no mask"):
        imported.load(saved(no_mask))
    path.write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="no valid ONNX graph"):
        imported.load(path)


def test_what_voices_have_not_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not searched"):
        pipeline.export(graph, tmp_path / "out", variants="auto")
    with pytest.raises(ExportError, match="is a voice"):
        pipeline.export(graph, tmp_path / "out", task="text-classification")


def test_a_variant_that_sounds_otherwise_is_refused() -> None:
    metrics = {
        name: Metric(value, 0.0, 2) for name, value in (("log_mel_distance", 0.5), ("log_mel_distance_max", 1.2))
    }
    found = Drift(Distances(2, 0.99, 0.98), 0.1, metrics=metrics)
    assert quality.shortfalls(found, Floor(max_mel_distance=1.2)) == []
    (short,) = quality.shortfalls(found, Floor(max_mel_distance=1.1))
    assert "farthest sentence 1.20 dB, at most 1.1 dB" in short
    beyond = replace(found, metrics={**metrics, "log_mel_distance_max": Metric(float("inf"), 0.0, 2)})
    assert quality.shortfalls(beyond, Floor(max_mel_distance=10.0))


def test_the_edges_of_a_vocoder_and_sums_keep_their_floats(voice: imported.PiperOriginal) -> None:
    decoder = graphs.named(voice.parts["decoder"])
    nodes = [node for node in decoder.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    kinds = [node.op_type for node in nodes]
    first, last = kinds.index("ConvTranspose"), len(kinds) - 1 - kinds[::-1].index("ConvTranspose")
    outside = [node.name for node in (*nodes[:first], *nodes[last + 1 :])]
    assert outside
    assert list(hiss.edges(decoder)) == outside
    assert hiss.edges(voice.parts["encoder"]) == ()
    made = hiss.settings(Settings(), "decoder", voice.parts, decoder)
    assert (list(made.keep or ()), made.sums, made.calibration) == (outside, False, "percentile")
    asked = Settings(percentile=99.0, keep=(f"decoder:{outside[0]}",))
    assert hiss.settings(asked, "decoder", voice.parts, decoder) == replace(asked, keep=(outside[0],))
    assert hiss.settings(asked, "flow", voice.parts, decoder) == replace(asked, keep=None)


def test_mel_distances_are_of_what_is_heard() -> None:
    rate = 16_000
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    assert mel.distance(tone, tone, rate) == 0.0
    assert mel.distance(tone[:-1], tone, rate) == float("inf")
    # Edges of the ranges of both, that are 6 dB apart, are nearer than that.
    assert mel.distance(tone / 2, tone, rate) == pytest.approx(20 * np.log10(2), abs=1.0)
    assert mel.distance(-tone, tone, rate) < 1e-9  # phases do not count
    silence = np.zeros_like(tone)
    assert mel.distance(silence, silence, rate) == 0.0
    # A hiss where the original pauses is heard, one that is 100 dB below it is not.
    paused = np.concatenate([tone, silence])
    hiss = np.random.default_rng(0).normal(size=len(paused)).astype(np.float32)
    assert mel.distance(paused + 1e-2 * hiss, paused, rate) > 6
    assert mel.distance(paused + 1e-7 * hiss, paused, rate) < 1e-3
    shape = mel.spectrogram(tone, rate).shape
    assert shape == (mel.BANDS, 1 + rate // 256)
    loudest = mel.spectrogram(tone, rate).mean(axis=1).argmax()
    centre = 700 * (10 ** ((loudest + 1) * 2595 * np.log10(1 + rate / 2 / 700) / (mel.BANDS + 1) / 2595) - 1)
    assert centre == pytest.approx(440, rel=0.1)
    assert len(IDS) == 13
