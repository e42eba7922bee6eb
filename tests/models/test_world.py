"""The made-up world: pictures by seed, captions and answers that are true, and what is held out."""

from __future__ import annotations

import itertools
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

MODELS = Path(__file__).resolve().parents[2] / "models"
sys.path.insert(0, str(MODELS))
try:
    from world import drawing, judging, samples
    from world.clips import FRAMES, MOMENTS, MOTIONS, Clip, clips, film, moments, side_by_side
    from world.scenes import COLORS, COUNTS, PLACES, SHAPES, SIZES, Scene, is_held_out, questions, scenes
finally:
    sys.path.remove(str(MODELS))

SEEN, HELD_OUT = scenes(held_out=False), scenes(held_out=True)
SCENE = st.sampled_from([*SEEN, *HELD_OUT])
CLIP = st.sampled_from([*clips(held_out=False), *clips(held_out=True)])


def things(picture: Image.Image) -> tuple[np.ndarray, int]:
    """Where a picture is not ground (height, width), and how many things that makes."""
    pixels = np.asarray(picture, np.int16)
    light = np.median(pixels.reshape(-1, 3), axis=0)
    marked = np.abs(pixels - light).max(axis=2) > 45
    # Rings have holes and edges are soft: what touches, also across a pixel, is one thing.
    left, count = marked.copy(), 0
    while left.any():
        count += 1
        front = [tuple(np.argwhere(left)[0])]
        while front:
            y, x = front.pop()
            near = left[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            found = np.argwhere(near) + np.array([max(0, y - 1), max(0, x - 1)])
            near[:] = False
            front += [tuple(place) for place in found]
    return marked, count


@given(SCENE, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_picture_shows_what_its_caption_says(scene: Scene, seed: int) -> None:
    picture = drawing.render(scene, random.Random(seed))
    assert picture.size == (64, 64)
    marked, count = things(picture)
    assert count == scene.count
    rows, columns = np.nonzero(marked)
    vertical, horizontal = scene.place.split()
    assert rows.max() < 32 if vertical == "top" else rows.min() >= 32
    assert columns.max() < 32 if horizontal == "left" else columns.min() >= 32
    # The color named is the nearest of all to what is seen, where it is least mixed with the ground.
    shown = np.asarray(picture, float)[marked]
    mixed = np.abs(shown - np.median(np.asarray(picture, float).reshape(-1, 3), axis=0)).max(axis=1)
    seen = np.median(shown[np.argsort(mixed)[-6:]], axis=0)
    assert min(COLORS, key=lambda color: np.abs(seen - drawing._RGB[color]).sum()) == scene.color
    assert COUNTS[scene.count - 1] in scene.caption or scene.count == 1
    for word in (scene.size, scene.color, scene.shape, scene.place):
        assert word in scene.caption


@pytest.mark.parametrize(("shape", "share"), [("circle", 0.785), ("square", 0.774), ("triangle", 0.5), ("cross", 0.56)])
def test_shapes_and_sizes_by_their_area(shape: str, share: float) -> None:
    for size, (low, high) in drawing._DIAMETERS.items():
        marked, _ = things(drawing.render(Scene(1, size, "black", shape, "top left"), random.Random(3)))
        assert 0.75 * share * low**2 < marked.sum() < 1.35 * share * high**2


def test_a_ring_is_open() -> None:
    marked, _ = things(drawing.render(Scene(1, "large", "red", "ring", "top left"), random.Random(5)))
    rows, columns = np.nonzero(marked)
    assert not marked[round(rows.mean()), round(columns.mean())]


def test_the_same_seed_gives_the_same_picture_and_another_another() -> None:
    scene, clip = SEEN[7], clips(held_out=False)[7]
    first, again, other = (drawing.render(scene, random.Random(seed)).tobytes() for seed in (1, 1, 2))
    assert first == again != other
    first, again, other = (moments(clip, random.Random(seed)).tobytes() for seed in (1, 1, 2))
    assert first == again != other
    # Fixed for good: a checkpoint's figures are of these very pictures.
    assert [is_held_out(scene.caption) for scene in SEEN[:3]] == [False] * 3


def test_what_is_held_out_is_never_trained_on() -> None:
    captions = [scene.caption for scene in (*SEEN, *HELD_OUT)]
    assert len(set(captions)) == len(captions) == 4 * 2 * 6 * 5 * 4
    assert 0.17 < len(HELD_OUT) / len(captions) < 0.23
    assert not {scene.caption for scene in SEEN} & {scene.caption for scene in HELD_OUT}
    moving = [clip.caption for held_out in (False, True) for clip in clips(held_out=held_out)]
    assert len(set(moving)) == len(moving) == 150
    assert {clip.motion for clip in clips(held_out=True)} == set(MOTIONS)


def test_every_pair_of_values_is_trained_on() -> None:
    values = (range(1, 5), SIZES, COLORS, SHAPES, PLACES)
    names = ("count", "size", "color", "shape", "place")
    for (a, one), (b, other) in itertools.combinations(zip(names, values, strict=True), 2):
        pairs = {(getattr(scene, a), getattr(scene, b)) for scene in SEEN}
        assert pairs == set(itertools.product(one, other))


@given(SCENE, st.integers(0, 2**32))
def test_answers_are_true(scene: Scene, seed: int) -> None:
    asked = {question.kind: question for question in questions(scene, random.Random(seed))}
    assert len(asked) == 6
    assert [asked[kind].answer for kind in ("color", "shape", "place", "size")] == [
        scene.color, scene.shape, scene.place, scene.size,
    ]  # fmt: skip
    assert asked["count"].answer == COUNTS[scene.count - 1]
    there = asked["presence"].text == f"is there a {scene.color} {scene.shape}?"
    assert asked["presence"].answer == ("yes" if there else "no")


def test_half_of_what_is_asked_for_is_there() -> None:
    draw = random.Random(1)
    found = Counter(questions(scene, draw)[-1].answer for scene in SEEN)
    assert 0.4 < found["yes"] / len(SEEN) < 0.6


@given(CLIP, st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_clip_moves_as_its_caption_says(clip: Clip, seed: int) -> None:
    frames = film(clip, random.Random(seed))
    assert len(frames) == FRAMES
    middles = [np.argwhere(things(frame)[0]).mean(axis=0) for frame in (frames[0], frames[-1])]
    down, right = middles[1] - middles[0]
    moved = {
        "moves to the left": right < -15, "moves to the right": right > 15, "moves up": down < -15,
        "moves down": down > 15, "stays still": abs(down) < 4 and abs(right) < 4,
    }  # fmt: skip
    assert [motion for motion, holds in moved.items() if holds] == [clip.motion]
    assert all(things(frame)[1] == 1 for frame in frames)


def test_moments_stand_row_by_row() -> None:
    frames = [Image.new("RGB", (64, 64), (index * 40, 0, 0)) for index in range(MOMENTS)]
    picture = side_by_side(frames, 2)
    assert picture.size == (128, 128)
    assert [picture.getpixel(place)[0] for place in ((5, 5), (70, 5), (5, 70), (70, 70))] == [0, 40, 80, 120]
    assert moments(clips(held_out=True)[0], random.Random(0)).size == (128, 128)


def test_the_samples_that_are_kept_are_those_made() -> None:
    for index, picture in enumerate(samples.pictures()):
        with Image.open(samples.FOLDER / f"{index:02d}.png") as kept:
            assert kept.tobytes() == picture.tobytes()
    for name, texts in (("captions.txt", samples.captions()), ("questions.txt", samples.asked())):
        assert (samples.FOLDER / name).read_text("utf-8").splitlines() == texts
    assert not any(is_held_out(caption) for caption in samples.captions())


def test_what_is_judged_is_held_out() -> None:
    shown = judging.gallery()
    assert len({scene.caption for scene, _ in shown}) == len(shown) == 100
    assert {scene for scene, _ in judging.pictures(len(HELD_OUT))} == set(HELD_OUT)
    assert all(is_held_out(clip.caption) for clip, _ in judging.films(20))
    # A picture that comes round again is another one of the same scene.
    again = judging.pictures(len(HELD_OUT) + 1)
    assert again[0][0] == again[-1][0]
    assert again[0][1].tobytes() != again[-1][1].tobytes()


def test_blind_is_the_most_frequent_answer() -> None:
    asked = judging.asked(360)
    assert Counter(question.kind for _, question in asked) == dict.fromkeys(
        ("color", "shape", "count", "place", "size", "presence"), 60
    )
    right = judging.share([judging.blind(question) == question.answer for _, question in asked])
    # By the grammar: (1/6 + 1/5 + 1/4 + 1/4 + 1/2 + 1/2) / 6 = 0.31.
    assert 0.2 < right < 0.42
    assert {judging.blind(question) for _, question in asked if question.kind == "size"} <= {"small", "large"}


def test_counting_by_hand() -> None:
    unit = np.eye(3, dtype=np.float32)
    assert judging.recall_at_1(unit, unit) == 1.0
    assert judging.recall_at_1(unit, unit[[0, 2, 1]]) == pytest.approx(1 / 3)
    assert judging.motion_of("a red ring moves up") == "moves up"
    assert judging.motion_of("a red ring") is None
    assert judging.motion_of("it moves up and moves down") is None
    assert judging.reach(0.5, 100) == "0.404 to 0.596"
