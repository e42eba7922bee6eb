"""Whether a rewritten graph is faster than what it was made of: measured where it is exported, not assumed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime

from sanderling_export import graphs
from sanderling_export.passes import probe

# Inputs and tokens of the batch on which both are timed, and the rounds in which they alternate; of a graph that takes
# longer than this for the batch, as those of large pictures do, a batch of one and fewer rounds.
_EXTENT, _SMALL = (4, 48), (1, 48)
_ROUNDS, _FEW = 7, 4
_LONG_SECONDS = 1.0
# Slower than this in every round is slower: at equal speeds that happens by chance once in 128 exports (once in 16 of
# few rounds).
_SLOWER = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Times the unrewritten graph's speed: the ratio of each round."""

    ratios: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    @property
    def pays(self) -> bool:
        """Whether the rewritten graph was not slower in every single round."""
        return max(self.ratios) >= _SLOWER


def compare(before: onnx.ModelProto, after: onnx.ModelProto) -> Pace | None:
    """How fast `after` is beside `before`, both on one thread of the CPU as they are loaded by default and by the
    runtime; None where the graphs take no inputs that are made up."""
    feeds, small = probe.feeds(ir.from_proto(before), (_EXTENT, _SMALL))
    try:
        with tempfile.TemporaryDirectory() as folder:
            slow, fast = _session(before, Path(folder) / "before"), _session(after, Path(folder) / "after", graphs.SLOW)
            rounds = _ROUNDS
            if _seconds(slow, feeds) > _LONG_SECONDS:
                feeds, rounds = small, _FEW
            _seconds(fast, feeds)
            return Pace(tuple(_seconds(slow, feeds) / _seconds(fast, feeds) for _ in range(rounds)))
    except probe.ProbeError:
        return None


def _session(model: onnx.ModelProto, folder: Path, disabled: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if disabled:
        options.add_session_config_entry("optimization.disable_specified_optimizers", disabled)
    graphs.save(model, folder)
    return onnxruntime.InferenceSession(str(folder / graphs.GRAPH_NAME), options, providers=["CPUExecutionProvider"])


def _seconds(session: onnxruntime.InferenceSession, feeds: Mapping[str, Any]) -> float:
    """Processor time of this process: what else the machine does at the time counts for neither side."""
    begin = time.process_time()
    try:
        session.run(None, dict(feeds))
    except Exception as error:  # ONNX Runtime's errors share no base
        raise probe.ProbeError(str(error)) from error
    return max(time.process_time() - begin, 1e-9)
