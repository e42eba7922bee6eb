"""Graphs that lead out of the bundle, hide it, or are no graphs: GraphError before ONNX Runtime sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sanderling.errors import GraphError
from sanderling.graph import check

OUTSIDE = [
    "../../etc/passwd",
    "/etc/passwd",
    "other.bin",
    "./weights.bin",
    "sub/weights.bin",
    "",
    "C:\\x",
    "weights.bin\0",
]


def external(location: str, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def subgraph(location: str) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [external(location)])


def in_initializer(location: str) -> onnx.ModelProto:
    return model(helper.make_graph([], "g", [], [], [external(location)]))


def in_constant(location: str) -> onnx.ModelProto:
    return model(helper.make_graph([helper.make_node("Constant", [], ["c"], value=external(location))], "g", [], []))


def in_list_of_tensors(location: str) -> onnx.ModelProto:
    node = helper.make_node("Any", [], ["c"], domain="x")
    node.attribute.add(name="many", type=onnx.AttributeProto.TENSORS).tensors.append(external(location))
    return model(helper.make_graph([node], "g", [], []))


def in_subgraph(location: str) -> onnx.ModelProto:
    inner = helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=subgraph(location))], "middle", [], [])
    node = helper.make_node("Loop", ["a"], ["b"], body=inner)
    return model(helper.make_graph([node], "g", [], []))


def in_list_of_graphs(location: str) -> onnx.ModelProto:
    node = helper.make_node("Any", [], ["c"], domain="x")
    node.attribute.add(name="many", type=onnx.AttributeProto.GRAPHS).graphs.append(subgraph(location))
    return model(helper.make_graph([node], "g", [], []))


def in_sparse_values(location: str) -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [])
    graph.sparse_initializer.add().values.CopyFrom(external(location))
    return model(graph)


def in_sparse_indices_of_an_attribute(location: str) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.indices.CopyFrom(external(location))
    return model(helper.make_graph([node], "g", [], []))


def in_function(location: str) -> onnx.ModelProto:
    made = model(helper.make_graph([], "g", [], []))
    made.functions.add(name="f", domain="x").node.append(
        helper.make_node("If", ["c"], ["d"], then_branch=subgraph(location))
    )
    return made


def in_default_of_a_function(location: str) -> onnx.ModelProto:
    made = model(helper.make_graph([], "g", [], []))
    made.functions.add(name="f", domain="x").attribute_proto.append(helper.make_attribute("value", external(location)))
    return made


def in_training(location: str) -> onnx.ModelProto:
    made = model(helper.make_graph([], "g", [], []))
    made.training_info.add().initialization.CopyFrom(subgraph(location))
    return made


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


PLACES = [
    in_initializer,
    in_constant,
    in_list_of_tensors,
    in_subgraph,
    in_list_of_graphs,
    in_sparse_values,
    in_sparse_indices_of_an_attribute,
    in_function,
    in_default_of_a_function,
    in_training,
]


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize("location", OUTSIDE)
def test_external_data_beyond_what_is_listed(
    make: Callable[[str], onnx.ModelProto], location: str, tmp_path: Path
) -> None:
    path = written(tmp_path, make(location).SerializeToString())
    with pytest.raises(GraphError, match=r"reads its weights from .*, which the manifest does not list"):
        check(path, {"weights.bin"})


@pytest.mark.parametrize("make", PLACES)
def test_external_data_that_is_listed(make: Callable[[str], onnx.ModelProto], tmp_path: Path) -> None:
    path = written(tmp_path, make("weights.bin").SerializeToString())
    check(path, {"weights.bin"})
    with pytest.raises(GraphError):
        check(path, set())


def test_a_location_given_twice_counts_as_protobuf_reads_it(tmp_path: Path) -> None:
    """Protobuf keeps the last value of a field that is there twice; whichever entry it is, none may lead out."""
    entry = onnx.StringStringEntryProto(key="location", value="weights.bin").SerializeToString()
    twice = entry + onnx.StringStringEntryProto(value="/etc/passwd").SerializeToString()
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL).SerializeToString() + field(13, twice)
    data = model(helper.make_graph([], "g", [], [])).SerializeToString() + field(7, field(5, tensor))
    assert onnx.ModelProto.FromString(data).graph.initializer[0].external_data[0].value == "/etc/passwd"
    with pytest.raises(GraphError, match="/etc/passwd"):
        check(written(tmp_path, data), {"weights.bin"})


@pytest.mark.parametrize("domain", ["com.microsoft", ""])
def test_a_providers_binary_is_refused_wherever_it_stands(domain: str, tmp_path: Path) -> None:
    node = helper.make_node("EPContext", [], ["c"], domain=domain, ep_cache_context="evil.so")
    inner = helper.make_graph(
        [helper.make_node("If", ["c"], ["d"], then_branch=helper.make_graph([node], "i", [], []))], "g", [], []
    )
    function = model(helper.make_graph([], "g", [], []))
    function.functions.add(name="f", domain="x").node.append(node)
    for made in (model(helper.make_graph([node], "g", [], [])), model(inner), function):
        with pytest.raises(GraphError, match="EPContext"):
            check(written(tmp_path, made.SerializeToString()), set())


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="is empty; an ONNX graph was expected"):
        check(written(tmp_path, b""), set())


def whole() -> bytes:
    nodes = [
        helper.make_node("If", ["c"], ["d"], then_branch=subgraph("weights.bin"), else_branch=subgraph("weights.bin"))
    ]
    return model(helper.make_graph(nodes, "g", [], [], [external("weights.bin")])).SerializeToString()


def test_cut_at_every_length(tmp_path: Path) -> None:
    data = whole()
    refused = 0
    for length in range(len(data)):
        try:
            check(written(tmp_path, data[:length]), {"weights.bin"})
        except GraphError:
            refused += 1
    # Only between two fields of the outermost message does what is left make sense to protobuf.
    assert refused >= len(data) - 8


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    only_graph_error(tmp_path, data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_never_hide_where_a_graph_leads(tmp_path: Path, data: st.DataObject) -> None:
    """What passes leads nowhere by the reading of the onnx package either."""
    raw = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if not only_graph_error(tmp_path, bytes(raw)):
        return
    try:
        read = onnx.ModelProto.FromString(bytes(raw))
    except Exception:  # protobuf's own refusal, of a type that differs between its versions
        return
    graphs = [read.graph, *(a.g for n in read.graph.node for a in n.attribute)]
    entries = [e for g in graphs for t in g.initializer for e in t.external_data]
    assert {e.value for e in entries if e.key == "location"} <= {"weights.bin"}


def only_graph_error(folder: Path, data: bytes) -> bool:
    try:
        check(written(folder, data), {"weights.bin"})
    except GraphError:
        return False
    return True


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@pytest.mark.parametrize("depth", [20, 20_000])
def test_deep_nesting(depth: int, tmp_path: Path) -> None:
    data = b""
    for _ in range(depth):
        data = field(1, field(5, field(6, data)))
    with pytest.raises(GraphError, match="deeper than 32"):
        check(written(tmp_path, field(7, data)), set())


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a" + b"\xff" * 9 + b"\x01",  # a length of 2**64 - 1
        b"\x3a" + b"\xff" * 20,  # a length that never ends
        b"\xff" * 100,  # a tag that never ends
        b"\x3a\xff\xff\xff\xff\x7fabc",  # a length beyond the file
        b"\x39\0\0",  # eight fixed bytes that are not there
        b"\x3d\0",  # four fixed bytes that are not there
        b"\x3b\x3c",  # a group
        b"\x02\x00",  # field number 0
        field(7, b"\x0a\x7f"),  # a node longer than its graph
    ],
)
def test_lengths_that_lie(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="is not an ONNX graph, or only a part of one"):
        check(written(tmp_path, data), set())
