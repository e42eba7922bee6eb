"""A VITS voice in one ONNX graph, cut into three: encoder, flow and decoder, with its noise as an input.

A graph of Piper takes ids, their count and three scales, and draws its noise inside, another one each run and for every
batch mate. The places are found by what they are, not by their names: two nodes draw noise; what the later one is added
to is the mean of the frames; the decoder begins with the convolution before the first that makes frames longer. Masks
are there for batches of several lengths; sentences go one by one here, so that all of a mask is 1, which is proven by a
run before it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sanderling.errors import CheckpointError
from sanderling.voices.rules import DURATION_NOISE, IDS, LATENTS, LENGTH_SCALE, MEAN, SCALE, SPEAKER, SPECTRUM
from sanderling_export import graphs

WAVEFORM = "waveform"
_LENGTHS = "input_lengths"
# Inputs of the reference graph: those of the original, and its noise.
NOISE_OF_DURATIONS, NOISE_OF_FRAMES = "noise_of_durations", "noise_of_frames"
_RANDOM = "RandomNormalLike"
# Numbers that are drawn for each token: two in every VITS with a stochastic predictor of durations.
_NOISES = 2


@dataclass(frozen=True, slots=True)
class Places:
    """Names of the tensors of a voice's graph at which it is cut."""

    ids: str
    lengths: str
    scales: str
    speaker: str | None
    output: str
    noise_of_durations: str
    noise_of_frames: str
    scaled_durations: str
    length_scale: str
    mean: str
    scale: str
    latents: str
    spectrum: str


class _Graph:
    """Who makes and who reads each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The value of a tensor that is one, whatever is run."""
        found: NDArray[np.generic] | None = None
        node = self.maker.get(name)
        if name in self.constants:
            found = numpy_helper.to_array(self.constants[name])
        elif node is not None and node.op_type == "Constant":
            found = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
        return found

    def before(self, names: Iterable[str], stop: Iterable[str] = ()) -> tuple[set[str], set[str]]:
        """The tensors that are computed on the way to `names`, not beyond `stop`; and those inputs it begins with."""
        seen: set[str] = set()
        begins: set[str] = set()
        todo, ends = list(names), set(stop)
        while todo:
            name = todo.pop()
            if not name or name in seen or name in self.constants:
                continue
            if name in ends or name not in self.maker:
                begins.add(name)
                continue
            seen.add(name)
            todo += self.maker[name].input
        return seen, begins


def find(model: onnx.ModelProto) -> Places:
    """Where a voice's graph is cut. Raises CheckpointError for a graph that is not built as Piper's are."""
    graph = _Graph(model)
    inputs = [value.name for value in model.graph.input if value.name not in graph.constants]
    if not {"input", _LENGTHS, "scales"} <= set(inputs) or not set(inputs) <= {"input", _LENGTHS, "scales", "sid"}:
        raise _unlike(f"it takes {', '.join(inputs)}; input, input_lengths, scales and perhaps sid were expected")
    drawn = [node for node in model.graph.node if node.op_type == _RANDOM]
    of_frames = [pair for node in drawn if (pair := _noisy_sum(graph, node)) is not None]
    if len(drawn) != 2 or len(of_frames) != 1:
        raise _unlike(
            f"it has {len(drawn)} nodes that draw noise, {len(of_frames)} of them of frames; 2 and 1 expected"
        )
    frames, scale, latents = of_frames[0]
    durations = next(node for node in drawn if node is not frames)
    (scaled,) = _readers(graph, durations.output[0], "Mul", "the noise of durations is not scaled")
    length = _gathered(graph, 1)
    spectrum = _spectrum(graph)
    return Places(
        "input", _LENGTHS, "scales", "sid" if "sid" in inputs else None, model.graph.output[0].name,
        durations.output[0], frames.output[0], scaled.output[0], length, frames.input[0], scale, latents, spectrum,
    )  # fmt: skip


def reference(model: onnx.ModelProto, places: Places) -> onnx.ModelProto:
    """The original graph as it is, but that its noise is given and not drawn: the inputs `noise_of_durations`
    (1, n, tokens) and `noise_of_frames` (1, channels, frames); and that its mean of frames is an output, too."""
    made = graphs.copied(model)
    for name, given in (
        (places.noise_of_durations, NOISE_OF_DURATIONS),
        (places.noise_of_frames, NOISE_OF_FRAMES),
    ):
        node = next(node for node in made.graph.node if name in node.output)
        made.graph.node.remove(node)
        for reader in made.graph.node:
            reader.input[:] = [given if one == name else one for one in reader.input]
        made.graph.input.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, [1, f"{given}_size", None]))
    made.graph.output.append(helper.make_tensor_value_info(places.mean, TensorProto.FLOAT, None))
    return made


def parts(model: onnx.ModelProto, places: Places, ones: Iterable[str]) -> dict[str, onnx.ModelProto]:
    """Encoder, flow and decoder of a voice; `ones` are masks that a run has shown to be 1 throughout."""
    graph = _Graph(model)
    channels = _channels(graph, places)
    told = [helper.make_tensor_value_info(SPEAKER, TensorProto.INT64, [1])] if places.speaker else []
    encoder = _cut(
        graph,
        {places.mean: MEAN, places.scale: SCALE},
        {
            places.ids: helper.make_tensor_value_info(IDS, TensorProto.INT64, [1, "tokens"]),
            places.scaled_durations: helper.make_tensor_value_info(
                DURATION_NOISE, TensorProto.FLOAT, [1, _NOISES, "tokens"]
            ),
            places.length_scale: helper.make_tensor_value_info(LENGTH_SCALE, TensorProto.FLOAT, [1]),
        },
        told,
        {name: [1, channels, "frames"] for name in (MEAN, SCALE)},
        ones=(),
        count_of=places.lengths,
    )
    flow = _cut(
        graph,
        {places.spectrum: SPECTRUM},
        {places.latents: helper.make_tensor_value_info(LATENTS, TensorProto.FLOAT, [1, channels, "frames"])},
        told,
        {SPECTRUM: [1, channels, "frames"]},
        ones,
    )
    decoder = _cut(
        graph,
        {_sounding(graph, places.output): WAVEFORM},
        {places.spectrum: helper.make_tensor_value_info(SPECTRUM, TensorProto.FLOAT, [1, channels, "frames"])},
        told,
        {WAVEFORM: [1, "samples"]},
        ones,
        flat=True,
    )
    return {"encoder": encoder, "flow": flow, "decoder": decoder}


def crossing(model: onnx.ModelProto, places: Places) -> set[str]:
    """Tensors that flow and decoder read of what comes before the frames: the masks."""
    graph = _Graph(model)
    earlier, _ = graph.before([places.latents])
    found: set[str] = set()
    for target, start in ((places.spectrum, places.latents), (places.output, places.spectrum)):
        found |= _borders(graph, target, start, earlier, places)
    return found


def _borders(graph: _Graph, target: str, start: str, earlier: set[str], places: Places) -> set[str]:
    """What is read on the way from `start` to `target` of the tensors before it, if it depends on the sentence."""
    inside, _ = graph.before([target], [start])
    mine = inside - earlier
    read = {name for one in mine for name in graph.maker[one].input} & earlier - {start}
    return {name for name in read if graph.before([name])[1] - {places.speaker}}


def _cut(
    graph: _Graph,
    outputs: Mapping[str, str],
    inputs: Mapping[str, onnx.ValueInfoProto],
    told: list[onnx.ValueInfoProto],
    shapes: Mapping[str, list[int | str]],
    ones: Iterable[str],
    *,
    count_of: str | None = None,
    flat: bool = False,
) -> onnx.ModelProto:
    """The part of a graph from `inputs` to `outputs`, both by the names they have in it, renamed."""
    masks = set(ones)
    inside, begins = graph.before(outputs, {*inputs, *masks})
    renamed = {name: value.name for name, value in inputs.items()} | ({"sid": SPEAKER} if told else {})
    # A tensor at which two parts meet is another one in each.
    made_names = {name: f"{name}_raw" if flat or name in inputs else new for name, new in outputs.items()}
    renamed |= made_names
    nodes: list[onnx.NodeProto] = []
    constants = list(graph.constants.values())
    if count_of is not None and count_of in begins:
        nodes += [
            helper.make_node("Shape", [IDS], ["cut_ids_shape"]),
            helper.make_node("Slice", ["cut_ids_shape", "cut_from_one", "cut_to_two"], [count_of]),
        ]
        ends = (("cut_from_one", 1), ("cut_to_two", 2))
        constants += [numpy_helper.from_array(np.array([end], np.int64), name) for name, end in ends]
        begins = begins - {count_of}
    constants += [numpy_helper.from_array(np.ones((1, 1, 1), np.float32), name) for name in masks & begins]
    left = begins - set(inputs) - masks - ({"sid"} if told else set())
    if left:
        raise _unlike(f"a part of it reads {', '.join(sorted(left))} of another")
    for node in graph.model.graph.node:
        if any(name in inside for name in node.output):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [renamed.get(name, name) for name in node.input]
            copy.output[:] = [renamed.get(name, name) for name in node.output]
            nodes.append(copy)
    if flat:
        (raw,) = made_names.values()
        nodes.append(helper.make_node("Reshape", [raw, "cut_flat_shape"], [WAVEFORM]))
        constants.append(numpy_helper.from_array(np.array([1, -1], np.int64), "cut_flat_shape"))
    needed = {name for node in nodes for name in node.input}
    given = [value for name, value in inputs.items() if value.name in needed]
    given += [value for value in told if value.name in needed]
    made = [helper.make_tensor_value_info(new, TensorProto.FLOAT, shapes[new]) for new in outputs.values()]
    body = helper.make_graph(nodes, "part", given, made, [one for one in constants if one.name in needed])
    found = helper.make_model(body, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    onnx.checker.check_model(found)
    return found


def _noisy_sum(graph: _Graph, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str, str] | None:
    """Of the node that draws noise of frames: itself, the scale it is multiplied with first, and mean plus noise."""
    name, scale = node.output[0], ""
    for _ in range(3):
        readers = graph.readers.get(name, [])
        if len(readers) != 1 or readers[0].op_type not in ("Mul", "Add"):
            return None
        (reader,) = readers
        if reader.op_type == "Add":
            return (node, scale, reader.output[0]) if node.input[0] in reader.input and scale else None
        scale = scale or next(one for one in reader.input if one != name)
        name = reader.output[0]
    return None


def _readers(graph: _Graph, name: str, operator: str, otherwise: str) -> list[onnx.NodeProto]:
    found = graph.readers.get(name, [])
    if len(found) != 1 or found[0].op_type != operator:
        raise _unlike(otherwise)
    return found


def _gathered(graph: _Graph, place: int) -> str:
    """The scale at a place of `scales`."""
    for node in graph.readers.get("scales", []):
        value = graph.constant(node.input[1]) if node.op_type == "Gather" else None
        if value is not None and value.size == 1 and int(value.reshape(-1)[0]) == place:
            return str(node.output[0])
    raise _unlike(f"nothing reads scale {place} by itself")


def _spectrum(graph: _Graph) -> str:
    """What the decoder's first convolution reads."""
    first = next((node for node in graph.model.graph.node if node.op_type == "ConvTranspose"), None)
    name = first.input[0] if first is not None else ""
    for _ in range(4):
        node = graph.maker.get(name)
        if node is None:
            break
        if node.op_type == "Conv":
            return str(node.input[0])
        # An activation, or a sum with what says who speaks.
        name = next((one for one in node.input if one in graph.maker), "")
    raise _unlike("no convolution stands before the first that makes frames longer")


def _sounding(graph: _Graph, output: str) -> str:
    """The output before axes of size 1 were put into its shape."""
    name = output
    while (node := graph.maker[name]).op_type in ("Unsqueeze", "Squeeze") and node.input[0] in graph.maker:
        name = str(node.input[0])
    return name


def _channels(graph: _Graph, places: Places) -> int:
    node = next(n for n in graph.readers[places.spectrum] if n.op_type == "Conv")
    return int(graph.constants[node.input[1]].dims[1])


def _unlike(what: str) -> CheckpointError:
    return CheckpointError(f"The graph is not built as the voices of Piper are: {what}. Export another voice.")
