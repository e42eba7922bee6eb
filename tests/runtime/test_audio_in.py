"""Sound in: WAV files of every kind of PCM, hostile headers, other formats, other rates, arrays."""

from __future__ import annotations

import io
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.audio import Audio
from sanderling.audio_wave import wave_blocks, wave_bytes, wave_header, write_wave
from sanderling.errors import AudioError, MissingExtraError, SanderlingError, StorageError
from sanderling.preprocess.audio import decoded

RATE = 16_000


def tone(frames: int = 1600, channels: int = 1, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)
    return found[:, 0] if channels == 1 else found


def wav(made: bytes, data: bytes, stated: int | None = None, before: bytes = b"") -> bytes:
    body = b"WAVEfmt " + struct.pack("<I", len(made)) + made + before
    body += b"data" + struct.pack("<I", len(data) if stated is None else stated) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def made(kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    width = channels * ((bits + 7) // 8)
    return struct.pack("<HHIIHH", kind, channels, rate, (rate * width) & 0xFFFFFFFF, width & 0xFFFF, bits)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 4),
    channels=st.integers(1, 9),
    rate=st.sampled_from([8000, 11025, 16000, 44100, 96000, 192000]),
    data=st.binary(min_size=0, max_size=400),
)
def test_whole_samples_of_every_width_are_read_as_python_reads_them(
    width: int, channels: int, rate: int, data: bytes
) -> None:
    data = data[: len(data) // (width * channels) * width * channels]
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(width)
        written.setframerate(rate)
        written.writeframes(data)
    whole = [
        int.from_bytes(data[i : i + width], "little", signed=width > 1) - (128 if width == 1 else 0)
        for i in range(0, len(data), width)
    ]
    expected = np.array(whole, np.float64).reshape(-1, channels) / 2 ** (8 * width - 1)
    header = wave_header(file, len(file.getvalue()), "it")
    assert header is not None
    assert (header.rate, header.channels, header.bits, header.missing) == (rate, channels, 8 * width, 0)
    found = list(wave_blocks(file, header))
    joined = np.concatenate(found) if found else np.zeros((0, channels))
    np.testing.assert_allclose(joined, expected, rtol=0, atol=2.0**-24)


@settings(max_examples=40, deadline=None)
@given(
    encoding=st.sampled_from(["int16", "int24", "float32"]),
    channels=st.integers(1, 4),
    frames=st.integers(1, 300),
    seed=st.integers(0, 100),
)
def test_what_is_written_is_read_again(encoding: Any, channels: int, frames: int, seed: int) -> None:
    samples = tone(frames, channels, seed)
    data, clipped = wave_bytes(samples, RATE, encoding)
    assert clipped == 0
    found, report = decoded(data, RATE)
    expected = samples if channels == 1 else samples.mean(axis=1)
    step = {"int16": 2.0**-16, "int24": 2.0**-24, "float32": 0.0}[encoding]
    np.testing.assert_allclose(found, expected, rtol=0, atol=step + 1e-7)
    assert (report.frames, report.channels, report.mixed, report.complete) == (frames, channels, channels > 1, True)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_file_does_worse_than_a_typed_error(data: st.DataObject) -> None:
    whole = bytearray(wave_bytes(tone(64, 2), RATE)[0])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, 60))
        whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found, report = decoded(cut, RATE)
    except SanderlingError:
        return
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert report.frames <= len(cut)


@pytest.mark.parametrize("stated", [10, 3198, 3201, 100_000, 2**31, 0xFFFFFFFE])
def test_a_length_that_is_not_there_is_told(stated: int) -> None:
    data = (tone() * 32767).astype("<i2").tobytes()
    found, report = decoded(wav(made(), data, stated), RATE)
    assert len(found) == report.frames == min(stated, len(data)) // 2
    assert report.missing == -(-stated // 2) - report.frames
    assert report.complete == (stated < 3200 and stated % 2 == 0)


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF])
def test_a_file_written_while_it_was_recorded_is_read_to_its_end(stated: int) -> None:
    data = (tone() * 32767).astype("<i2").tobytes()
    found, report = decoded(wav(made(), data, stated), RATE)
    assert len(found) == 1600
    assert report.complete


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (made(channels=0), "has 0 channels; 1 to 128 were expected"),
        (made(channels=60_000), "has 60,000 channels"),
        (made(rate=0), "has a rate of 0 Hz; 8,000 to 192,000 were expected"),
        (made(rate=2**32 - 1), "has a rate of 4,294,967,295 Hz"),
        (made(bits=0), "samples of 0 bits"),
        (made(bits=40), "samples of 40 bits"),
        (made(kind=3, bits=16), "floating-point samples of 16 bits"),
        (made()[:-4] + struct.pack("<HH", 7, 16), "contradicts itself"),
        (made()[:10], "is cut off in its header"),
    ],
)
def test_a_header_that_lies_is_refused(header: bytes, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        decoded(wav(header, bytes(3200)), RATE)


def test_chunks_before_the_samples_are_passed_over_wherever_they_lead() -> None:
    data = (tone() * 32767).astype("<i2").tobytes()
    found, _ = decoded(wav(made(), data, before=b"LIST" + struct.pack("<I", 3) + b"abc\0"), RATE)
    assert len(found) == 1600
    with pytest.raises(AudioError, match="without samples"):
        decoded(wav(made(), data, before=b"LIST" + struct.pack("<I", 2**32 - 1)), RATE)
    with pytest.raises(AudioError, match="before it says what they are"):
        decoded(b"RIFF\0\0\0\0WAVEdata" + struct.pack("<I", 4) + b"abcd", RATE)


def test_an_endless_run_of_chunks_ends() -> None:
    with pytest.raises(AudioError, match="without samples"):
        decoded(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, RATE)


def test_extensible_files_are_read() -> None:
    guid = struct.pack("<H", 3) + bytes.fromhex("000000001000800000aa00389b71")
    header = made(0xFFFE, bits=32) + struct.pack("<HHI", 22, 32, 4) + guid
    samples = tone()
    found, report = decoded(wav(header, samples.astype("<f4").tobytes()), RATE)
    np.testing.assert_array_equal(found, samples)
    assert report.encoding == "float 32 bit"


def test_of_truncated_coded_samples_it_is_told_how_many_are_missing() -> None:
    soundfile = pytest.importorskip("soundfile")
    stored = io.BytesIO()
    sound = np.sin(np.arange(64_000) * 0.05).astype(np.float32) * 0.5
    soundfile.write(stored, sound, 16_000, format="WAV", subtype="IMA_ADPCM")
    _, whole = decoded(stored.getvalue(), 16_000)
    assert whole.missing == 0
    samples, report = decoded(stored.getvalue()[: len(stored.getvalue()) // 2], 16_000)
    assert len(samples) == report.frames
    assert 28_000 < report.missing < 36_000
    assert 28_000 < report.frames < 36_000


def test_coded_samples_are_read_by_soundfile(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, kind in (("a.wav", {"subtype": "MS_ADPCM"}), ("u.wav", {"subtype": "ULAW"}), ("f.flac", {})):
        soundfile.write(tmp_path / name, tone() * 0.2, RATE, **kind)
        found, report = decoded(tmp_path / name, RATE)
        assert report.frames == len(found) >= 1600
        assert report.encoding.split()[0] == name[-4:].strip(".")
    with pytest.raises(AudioError, match="no sound that can be read"):
        decoded((tmp_path / "f.flac").read_bytes()[:20], RATE)


def test_what_an_extra_is_missing_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtraError, match=r'resampling needs the package \'soxr\'.*"sanderling\[audio\]"'):
        decoded(Audio(tone(), 44100), RATE)
    with pytest.raises(MissingExtraError, match=r'no WAV file of PCM.*"sanderling\[audio\]"'):
        decoded(wav(made(kind=2, bits=4), bytes(100)), RATE)
    decoded(Audio(tone(), RATE), RATE)


@settings(max_examples=20, deadline=None)
@given(rate=st.sampled_from([8000, 11025, 22050, 44100, 48000, 192000]), seconds=st.floats(0.1, 8))
def test_a_rate_is_brought_to_the_models(rate: int, seconds: float) -> None:
    soxr = pytest.importorskip("soxr")
    samples = np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 440 / rate).astype(np.float32)
    found, report = decoded(Audio(samples, rate), RATE)
    assert report.resampled == RATE
    assert abs(len(found) - len(samples) * RATE / rate) <= 1
    np.testing.assert_allclose(found, soxr.resample(samples, rate, RATE)[: len(found)], atol=2e-4)


def test_channels_are_mixed_down_to_their_mean() -> None:
    samples = tone(1000, 3)
    found, report = decoded(Audio(samples, RATE), RATE)
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-7)
    assert report.mixed
    assert report.channels == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float16, np.float64])
def test_arrays_of_every_dtype_mean_the_same(dtype: Any) -> None:
    samples = tone()
    scale = {np.uint8: 128, np.int16: 2**15, np.int32: 2**31}.get(dtype, 1)
    given_ = (samples.astype(np.float64) * scale + (128 if dtype is np.uint8 else 0)).astype(dtype)
    found, _ = decoded(Audio(given_, RATE), RATE)
    np.testing.assert_allclose(found, samples, atol=0.01 if dtype is np.uint8 else 1e-3)


def test_clipped_samples_are_counted() -> None:
    samples = np.array([0.0, 1.0, -1.0, 0.5, 1.5], np.float32)
    assert decoded(Audio(samples, RATE), RATE)[1].clipped == 3
    whole = np.array([0, 32767, -32768, 32766], np.int16)
    assert decoded(Audio(whole, RATE), RATE)[1].clipped == 2
    assert wave_bytes(samples, RATE)[1] == 1
    assert wave_bytes(samples, RATE, "float32")[1] == 0


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (np.zeros(10, np.float32), r"Say its rate: Audio\(samples, rate\)"),
        (7, "of type int; a file, bytes or Audio was expected"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n and more of it", "no sound that can be read"),
        ("", "The path is empty"),
        ("nowhere.wav", "does not exist"),
        ("https://example.org/a.wav", "URLs are not fetched"),
        (".", "is a folder"),
        (Audio(np.zeros(0, np.float32), RATE), "has no samples"),
        (Audio(np.array([0.0, np.nan], np.float32), RATE), "not finite at the sample 1"),
        (Audio(np.array([1e300]), RATE), "not finite at the sample 0"),
        (Audio(np.zeros((2, 1000), np.float32), RATE), "frames come first"),
        (Audio(np.zeros((2, 2, 2), np.float32), RATE), "was expected"),
        (Audio(np.zeros(5, np.int64), RATE), "dtype int64"),
        (Audio(np.zeros(5, np.float32), 100), "rate of 100 Hz"),
        (Audio(np.zeros(5, np.float32), 16000.5), "the rate 16000.5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_sound_is_refused(given_: Any, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        decoded(given_, RATE)


def test_what_is_too_long_is_refused_before_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanderling.preprocess.audio.MAX_SECONDS", 36)
    # As many samples as it says, all of them one and the same place in memory.
    endless = np.broadcast_to(np.float32(0), (RATE * 37,))
    with pytest.raises(AudioError, match="is longer than"):
        decoded(Audio(endless, RATE), RATE)


def test_one_sample_is_a_sound() -> None:
    found, report = decoded(Audio(np.array([0.25], np.float32), RATE), RATE)
    assert found.tolist() == [0.25]
    assert report.seconds == 1 / RATE


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    assert Audio(tone(), RATE).save(path) == 0
    before = path.read_bytes()
    with pytest.raises(AudioError, match="finite"):
        write_wave(path, np.array([np.inf]), RATE)
    with pytest.raises(StorageError):
        write_wave(tmp_path / "nowhere" / "a.wav", tone(), RATE)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["a.wav"]
    with wave.open(str(path)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getnframes()) == (RATE, 1, 1600)


@pytest.mark.parametrize("samples", [np.zeros(4, np.int16), np.zeros((2, 2, 2)), np.zeros((3, 0))])
def test_samples_that_no_file_has_are_refused(samples: Any) -> None:
    with pytest.raises(AudioError, match="cannot be written"):
        wave_bytes(samples, RATE)
