"""Sums of 8-bit products that saturate in 16 bits, on processors without VNNI, are caught by `verify`.

Unsigned 8-bit activations times signed 8-bit weights are multiplied by ONNX Runtime on AVX2 in pairs whose sum has 16
bits: 2 x 255 x 127 is 64,770, and 32,767 is kept. The graphs here are built to turn round when that happens;
whether this machine's processor saturates is asked of ONNX Runtime itself, against numpy's 32-bit sums, and `verify`
must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_bundles
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import sanderling
from sanderling.errors import VerdictError, VerdictWarning
from sanderling.manifest import Preprocessing
from sanderling.schema.variants import TensorSpec, Tolerance
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.verification import cosines

DEPTH = 64
WIDTH = tiny_bundles.DIMENSION
LEAST = 0.999
# The sums are far below 2^24, so float32 holds them exactly, and the reference's products too.
OUTPUT_SCALE = np.float32(2.0**-12)
TEXTS = {name: text for name, text in tiny_bundles.TEXTS.items() if text}

Matrix = NDArray[Any]
Operator = str


def extremes(seed: int, largest: int, heaviest: int) -> tuple[Matrix, Matrix]:
    """A table (tokens, DEPTH), uint8, of `largest`, but for a few 0; weights (DEPTH, WIDTH), int8, at most `heaviest`.

    A column has neighbours of one sign, which saturate, or else single weights of the other, which do not. Exactly
    summed, the neighbours outweigh them; saturated, each two count as one, and the sum changes its sign.
    """
    random = np.random.default_rng(seed)
    table = np.where(random.random((len(tiny_bundles.VOCABULARY), DEPTH)) < 0.95, largest, 0).astype(np.uint8)
    doubled = random.permuted(np.tile(np.arange(DEPTH // 2)[:, None] < 0.21 * DEPTH, (1, WIDTH)), axis=0)
    sign = np.where(random.random(WIDTH) < 0.5, 1, -1) * np.linspace(0.6, 1, WIDTH)
    pairs = np.where(doubled, [[[1]], [[1]]], [[[-1]], [[0]]]) * sign
    weight = np.rint(pairs.transpose(1, 0, 2).reshape(DEPTH, WIDTH) * heaviest)
    return table, weight.astype(np.int8)


def exact(table: Matrix, weight: Matrix, ids: list[int]) -> NDArray[np.int32]:
    """The sums of the tokens' rows, (tokens, WIDTH), in 32 bits."""
    return np.asarray(table[ids].astype(np.int32) @ weight.astype(np.int32))


def integer_nodes(operator: Operator, weight: Matrix) -> tuple[list[Any], dict[str, Matrix]]:
    """From `rows` (uint8) to `sums` (float32): the 32-bit sums themselves, or rounded to 8 bits by a QLinearMatMul."""
    if operator == "MatMulInteger":
        nodes = [
            helper.make_node("MatMulInteger", ["rows", "weight"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["sums"], to=TensorProto.FLOAT),
        ]
        return nodes, {"weight": weight}
    steps = np.float32(DEPTH * 255.0)
    scalars = {"one": np.float32(1), "zero": np.uint8(0), "none": np.int8(0), "steps": steps, "middle": np.uint8(128)}
    quantized = ["rows", "one", "zero", "weight", "one", "none", "steps", "middle"]
    nodes = [
        helper.make_node("QLinearMatMul", quantized, ["coarse"]),
        helper.make_node("DequantizeLinear", ["coarse", "steps", "middle"], ["sums"]),
    ]
    return nodes, {"weight": weight, **{name: np.asarray(value) for name, value in scalars.items()}}


def ort_sums(operator: Operator, table: Matrix, weight: Matrix, ids: list[int]) -> NDArray[np.float32]:
    """The sums as ONNX Runtime makes them on this machine, (tokens, WIDTH)."""
    nodes, weights = integer_nodes(operator, weight)
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, ["batch", "tokens", DEPTH])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", "tokens", WIDTH])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["sums"], {"rows": table[ids][None]})[0][0])


def intended(operator: Operator, sums: NDArray[np.int32]) -> NDArray[np.float64]:
    """What the operator gives for these sums by its definition."""
    if operator == "MatMulInteger":
        return sums.astype(np.float64)
    steps = DEPTH * 255.0
    return (np.clip(np.rint(sums / steps) + 128, 0, 255) - 128) * steps


def embedding(sums: NDArray[Any]) -> NDArray[np.float32]:
    """The mean over the tokens, normalized; (WIDTH,)."""
    mean = sums.astype(np.float64).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


def bundle_of(target: Path, operator: Operator, table: Matrix, weight: Matrix) -> Path:
    """A bundle whose default variant sums 8-bit products as integers, and whose other one does the same in float32."""
    nodes, weights = integer_nodes(operator, weight)
    graphs: dict[str, tiny_bundles.Graph] = {
        "int8-static": (
            [
                helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
                *nodes,
                helper.make_node("Mul", ["sums", "scale"], ["last_hidden_state"]),
            ],
            {"table": table, "scale": np.asarray(OUTPUT_SCALE), **weights},
        ),
        "fp32": (
            [
                helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
                helper.make_node("MatMul", ["rows", "weight"], ["last_hidden_state"]),
            ],
            {"table": table.astype(np.float32), "weight": weight.astype(np.float32) * OUTPUT_SCALE},
        ),
    }
    signature = (
        tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")),
        (TensorSpec("last_hidden_state", "float32", ("batch", "sequence", WIDTH)),),
    )
    ids = {name: tiny_bundles.token_ids(text) for name, text in TEXTS.items()}
    tensors: dict[str, Matrix] = {f"{name}.output": embedding(exact(table, weight, ids[name])) for name in TEXTS}
    tensors |= {f"{name}.input.input_ids": np.array(ids[name]) for name in TEXTS}
    with tiny_bundles._Build(target) as build:
        build.commit(
            "saturating",
            ("embedding", "feature-extraction"),
            build.component(signature, graphs, {"int8-static": Tolerance(LEAST), "fp32": Tolerance(0.999999)}),
            Preprocessing(text=tiny_bundles._text_settings(build)),
            EmbeddingOutput("last_hidden_state", "mean", True, WIDTH),
            build.golden([{"id": name, "text": text} for name, text in TEXTS.items()], tensors),
            space="5" * 64,
        )
    return target


def lowest(operator: Operator, table: Matrix, weight: Matrix, *, here: bool) -> float:
    """The lowest cosine of the golden answers: with this machine's sums, or with the operator's by definition."""
    found = []
    for text in TEXTS.values():
        ids = tiny_bundles.token_ids(text)
        sums = exact(table, weight, ids)
        given = ort_sums(operator, table, weight, ids) if here else intended(operator, sums)
        found.append(float(cosines(embedding(given)[None], embedding(sums)[None])[0]))
    return min(found)


@pytest.mark.parametrize("operator", ["MatMulInteger", "QLinearMatMul"])
def test_verify_agrees_with_what_this_processor_does(tmp_path: Path, operator: Operator) -> None:
    table, weight = extremes(1, 255, 127)
    assert lowest(operator, table, weight, here=False) > LEAST
    cosine = lowest(operator, table, weight, here=True)
    assert cosine > LEAST or cosine < 0.5, "neither right nor plainly wrong"
    saturates = cosine < LEAST
    bundle = bundle_of(tmp_path / "bundle", operator, table, weight)
    tiny_bundles.reseal(
        bundle, lambda manifest: type(manifest)(**(fields(manifest) | {"default_variant": "int8-static"}))
    )
    held = {c.variant: c.held for c in sanderling.verify(bundle, provider="cpu").combinations}
    assert held == {"fp32": True, "int8-static": not saturates}
    if saturates:
        with pytest.warns(VerdictWarning, match="Using fp32 on cpu instead"):
            loaded = sanderling.load(bundle)
        with pytest.raises(VerdictError, match="golden answers beyond tolerance"):
            sanderling.load(bundle, variant="int8-static")
    else:
        loaded = sanderling.load(bundle)
    with loaded as model:
        assert model.variant == ("fp32" if saturates else "int8-static")
        text = TEXTS["long"]
        expected = embedding(exact(table, weight, tiny_bundles.token_ids(text)))
        assert float(model(text).embedding @ expected) > LEAST


def fields(manifest: Any) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), largest=st.integers(100, 255), heaviest=st.integers(20, 127))
def test_what_saturates_is_found_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, seed: int, largest: int, heaviest: int
) -> None:
    """A pair of products fits in 16 bits while 2 x largest x heaviest does: then the variant must hold anywhere."""
    table, weight = extremes(seed, largest, heaviest)
    here = lowest("MatMulInteger", table, weight, here=True)
    if 2 * largest * heaviest <= 32767:
        assert here > 0.999999
    report = sanderling.verify(
        bundle_of(tmp_path_factory.mktemp("saturating") / "bundle", "MatMulInteger", table, weight), provider="cpu"
    )
    found = {c.variant: c.held for c in report.combinations}
    assert found["fp32"]
    if abs(here - LEAST) > 1e-5:
        assert found["int8-static"] == (here > LEAST)
