"""Which parts of a vocoder keep their floats, so that a voice in 8 bits does not hiss.

A vocoder of the HiFi-GAN family makes frames longer step by step, each step by a transposed convolution and residual
blocks. What is rounded is heard as noise beside the voice, louder than what the voice itself says in its pauses and
high bands. Of joe-medium, log-mel distances of its decoder alone, on two sentences:

- sums of residual blocks rounded as all else: 7.9 dB; in float, 4.6 dB;
- the last step in float as well, whose output is the waveform but for one convolution: 1.4 dB. It has a third of the
  products, and takes most of the time, little of which 8 bits save: its 32 channels are few;
- the convolution in front of the first step in float, whose input has ranges far beyond what is usual in it: the
  cosine of samples rises from 0.991 to 0.995, and it is faster;
- ranges cut at a percentile: 1.05 dB. Channels brought to one range first made no difference (1.3 to 1.4 dB).
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from sanderling_export.settings import Settings, of_graph

_LONGER = "ConvTranspose"


def settings(asked: Settings, name: str, parts: Collection[str], model: onnx.ModelProto) -> Settings:
    """How the graph `name` of a voice of these `parts`, whose nodes have names, is rounded: as `asked`, or as above
    where nothing was. Raises ExportError for a node to keep that is in none of the parts."""
    if asked != Settings():
        return of_graph(asked, name, parts)
    kept = edges(model)
    return Settings(keep=kept or None, sums=False, calibration="percentile")


def edges(model: onnx.ModelProto) -> tuple[str, ...]:
    """The convolutions before the first transposed one and behind the last; none of a graph without such."""
    nodes = list(model.graph.node)
    places = [place for place, node in enumerate(nodes) if node.op_type == _LONGER]
    if not places:
        return ()
    return tuple(
        node.name for place, node in enumerate(nodes) if node.op_type == "Conv" and not places[0] < place < places[-1]
    )
