"""The one seam around ONNX Runtime: a graph to run, on a provider that really took it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import onnxruntime
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import cores, forked, providers
from sanderling.errors import GraphError, InferenceError, ModelClosedError, ProviderError, SanderlingError
from sanderling.placement import Placement, node_seconds, run_count
from sanderling.plan import DISABLED_FUSIONS
from sanderling.reasons import first_line
from sanderling.schema.variants import Component
from sanderling.single_node import Rows

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

Arrays = Mapping[str, NDArray[Any]]
CPU_MEMORY = "cpu"

# Characters of what ONNX Runtime says that are passed on.
_SAID = 500

_ORT_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    **{f"tensor({name})": name for name in ("int64", "int32", "int16", "int8", "uint16", "uint8")},
}


class Engine(Protocol):
    """What a model runs on: ONNX Runtime, or a fake in a test."""

    provider: str
    threads: int

    @property
    def placement(self) -> Placement: ...

    def run(self, feeds: Arrays, cancellation: Cancellation | None = None) -> dict[str, NDArray[Any]]: ...

    def measure_placement(self, feeds: Sequence[Arrays], runs: int) -> Placement: ...

    def profiled(self, passes: int) -> AbstractContextManager[Engine]: ...

    def chain(self, links: Mapping[str, str], start: Mapping[str, Start], fixed: Held | None = None) -> Chain: ...

    def hold(self, feeds: Arrays, cancellation: Cancellation | None = None, fixed: Held | None = None) -> Held: ...

    def close(self) -> None: ...


class Session:
    """A graph loaded into ONNX Runtime. Runs from many threads at once; `close` waits for none of them."""

    def __init__(
        self,
        graph: Path,
        component: Component,
        *,
        provider: str = "cpu",
        threads: int,
        optimized: bool = False,
        disabled_fusions: Sequence[str] = DISABLED_FUSIONS,
    ) -> None:
        self.provider = provider
        self.threads = threads
        self._graph = graph
        self._optimized = optimized
        self._outputs = [spec.name for spec in component.outputs]
        self._budget = cores.budget()
        self._disabled_fusions = disabled_fusions
        session = _build(graph, provider, self._options())
        self._placement: Placement | None = None
        _check_signature(graph, "input", component.inputs, session.get_inputs())
        _check_signature(graph, "output", component.outputs, session.get_outputs())
        self._session: onnxruntime.InferenceSession | None = session
        self._process = os.getpid()
        forked.watch(self)

    @property
    def placement(self) -> Placement:
        """Which provider has which nodes; asked of ONNX Runtime when first wanted, for it takes milliseconds."""
        if self._placement is None:
            self._placement = _placement(self.provider, self._open())
        return self._placement

    def measure_placement(self, feeds: Sequence[Arrays], runs: int = 3) -> Placement:
        """The placement with the seconds that each provider's nodes take: each of the `feeds` is run `runs` times,
        after one time that does not count."""
        with self.profiled(runs + 1) as twin:
            for _ in range(runs + 1):
                for given in feeds:
                    twin.run(given)
        return self.placement

    @contextmanager
    def profiled(self, passes: int) -> Iterator[Session]:
        """The same graph in a second session, with ONNX Runtime's profiler on; freed behind the block.

        What runs in the block is the same `passes` times over. Behind it `placement` has the seconds that nodes took in
        all passes but the first: providers compile for new shapes. Takes the time and memory of another load.
        """
        import tempfile  # only for those who measure

        self._open()
        placement = self.placement
        options = self._options()
        options.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="sanderling-") as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            twin = copy(self)
            profiling = twin._session = _build(self._graph, self.provider, options)
            forked.watch(twin)
            try:
                yield twin
            finally:
                written = Path(profiling.end_profiling())
                twin.close()
            events = msgspec.json.decode(written.read_bytes())
        spent = node_seconds(events, skip=run_count(events) // passes)
        seconds = {providers.short_name(name): value for name, value in spent.items()}
        self._placement = msgspec.structs.replace(placement, seconds=seconds)

    def run(self, feeds: Arrays, cancellation: Cancellation | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph once on the host arrays `feeds`; the outputs by name.

        It waits until the process's budget of cores has as many free as the session's threads.
        Raises InferenceError if ONNX Runtime fails, ModelClosedError after `close` or in a forked child,
        CancelledError or DeadlineError as `cancellation` says.
        """
        session = self._open()
        values = self._guarded(lambda options: session.run(self._outputs, feeds, options), cancellation)
        return dict(zip(self._outputs, values, strict=True))

    def _guarded(self, work: Callable[[onnxruntime.RunOptions | None], Any], cancellation: Cancellation | None) -> Any:
        """What `work` gives within the budget of cores. Errors as of `run`."""
        found: Any = None
        try:
            with self._budget.use(self.threads, cancellation):
                if cancellation is None:
                    found = work(None)
                else:
                    options = onnxruntime.RunOptions()
                    with cancellation.stopping(lambda: setattr(options, "terminate", True)):
                        found = work(options)
        except SanderlingError:
            raise
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed on {self.provider}: {first_line(error, _SAID)}") from error
        return found

    def _options(self) -> onnxruntime.SessionOptions:
        return _options(self.threads, self._optimized, self._disabled_fusions)

    def _open(self) -> onnxruntime.InferenceSession:
        if os.getpid() != self._process:
            raise ModelClosedError(
                "This process was forked after the model was loaded, and its threads stayed behind; "
                "load the model in the child, or start processes by 'spawn'."
            )
        session = self._session
        if session is None:
            raise ModelClosedError("This model was closed; load it again.")
        return session

    def bind(self, feeds: Arrays) -> Bound:
        """A run whose inputs are copied to the provider's memory now, and whose outputs stay there."""
        return Bound(self._open(), feeds, self._outputs, providers.resolve(self.provider).memory)

    def chain(self, links: Mapping[str, str], start: Mapping[str, Start], fixed: Held | None = None) -> Chain:
        """Runs after each other, of which the outputs in `links` are, by that name, inputs of the next.

        `start` says of each linked input the dtype and shape of what the first run is given, with no elements in it;
        `fixed` are inputs that stay the same.
        """
        return Chain(self, links, start, fixed)

    def hold(self, feeds: Arrays, cancellation: Cancellation | None = None, fixed: Held | None = None) -> Held:
        """Run the graph once on `feeds` and what is held already, and leave its outputs where the provider computes.

        Errors as of `run`.
        """
        session = self._open()
        memory = providers.resolve(self.provider).memory
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name, value in (fixed.values if fixed is not None else {}).items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, memory, 0)
        self.run_bound(binding, cancellation)
        return Held(dict(zip(self._outputs, binding.get_outputs(), strict=True)), self.provider)

    def run_bound(self, binding: onnxruntime.IOBinding, cancellation: Cancellation | None) -> None:
        """Run the graph on what is bound, and wait until the outputs are there. Errors as of `run`."""
        session = self._open()

        def work(options: onnxruntime.RunOptions | None) -> None:
            session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        self._guarded(work, cancellation)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the manifest states."""
        return tuple(self._outputs)

    def binding(self) -> onnxruntime.IOBinding:
        """Nothing bound yet."""
        return self._open().io_binding()

    def close(self) -> None:
        """Let the session go; runs under way in other threads end as they would."""
        self._session = None

    def abandon(self) -> None:
        """In a forked child: never destroy the session, since that would wait for threads that are not there."""
        forked.keep(self._session)
        self._session = None


class Bound:
    """A run with its data where the provider computes: nothing travels to it and back but on demand.

    The inputs are those it was made with: to change one in place is not seen by every provider, so it is not offered.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, feeds: Arrays, outputs: Sequence[str], memory: str
    ) -> None:
        self._session = session
        self._outputs = outputs
        self._binding = session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array, memory, 0)
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, memory, 0)

    def run(self) -> None:
        """Run the graph once, and wait until the outputs are there. Raises InferenceError."""
        try:
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed on bound arrays: {first_line(error, _SAID)}") from error

    def outputs(self) -> dict[str, NDArray[Any]]:
        """The outputs of the last run, copied to the host, by name."""
        return dict(zip(self._outputs, self._binding.copy_outputs_to_cpu(), strict=True))


class Start(Struct, frozen=True):
    """An array without elements: its dtype, and its shape with a 0 in it."""

    dtype: str
    shape: tuple[int, ...]


class Held:
    """Arrays by name where a provider computes; what they hold is not seen here."""

    def __init__(self, values: dict[str, onnxruntime.OrtValue], provider: str) -> None:
        self.values = values
        self.provider = provider

    def renamed(self, names: Mapping[str, str]) -> Held:
        """Those among `names`, by their new ones."""
        return Held({new: self.values[old] for old, new in names.items()}, self.provider)

    def taken(self, order: NDArray[np.int64]) -> Held:
        """The same with these rows of the first dimension, in this order, without a way over the host."""
        found = {name: Rows.of(self.provider, one.element_type()).take(one, order) for name, one in self.values.items()}
        return Held(found, self.provider)


class Chain:
    """Runs of one graph after each other. What one leaves for the next stays where the provider computes.

    Not to be shared by threads: each sequence of runs has one of its own.
    """

    def __init__(
        self, session: Session, links: Mapping[str, str], start: Mapping[str, Start], fixed: Held | None
    ) -> None:
        self._session = session
        self._links = dict(links)
        self._memory = providers.resolve(session.provider).memory
        self._fixed = fixed
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        nothing = {name: make(one.shape, np.dtype(one.dtype), self._memory, 0) for name, one in start.items()}
        self._kept = Held(nothing, session.provider)

    def run(self, feeds: Arrays, cancellation: Cancellation | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph on `feeds` and what the run before left; outputs that are not linked, on the host."""
        binding = self._session.binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        fixed = self._fixed.values if self._fixed is not None else {}
        for name, value in (fixed | self._kept.values).items():
            binding.bind_ortvalue_input(name, value)
        for name in self._session.outputs:
            binding.bind_output(name, self._memory if name in self._links else CPU_MEMORY, 0)
        self._session.run_bound(binding, cancellation)
        made = dict(zip(self._session.outputs, binding.get_outputs(), strict=True))
        left = {self._links[name]: value for name, value in made.items() if name in self._links}
        self._kept = Held(left, self._session.provider)
        return {name: value.numpy() for name, value in made.items() if name not in self._links}

    def reorder(self, order: NDArray[np.int64], *, fixed: bool = True) -> None:
        """Go on with these rows of what the last run left, and of what is `fixed`, unless all rows of that are one."""
        self._kept = self._kept.taken(order)
        if fixed and self._fixed is not None:
            self._fixed = self._fixed.taken(order)


def _build(graph: Path, provider: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on this provider. Raises GraphError, or ProviderError where the provider did not take it."""
    chosen = providers.resolve(provider)
    try:
        names = providers.configure(options, chosen)
        session = onnxruntime.InferenceSession(str(graph), options, providers=names, enable_fallback=0)
    except Exception as error:
        raise GraphError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {graph} on {provider}: {first_line(error, _SAID)}"
        ) from error
    if chosen.full_name not in session.get_providers():
        raise ProviderError(
            f"ONNX Runtime did not take the provider {provider!r} for {graph}: it would run on "
            f"{', '.join(map(providers.short_name, session.get_providers()))} instead. "
            "Check its driver, or ask for provider='cpu'."
        )
    return session


def _placement(provider: str, session: onnxruntime.InferenceSession) -> Placement:
    nodes: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        where = nodes.setdefault(providers.short_name(part.ep_name), Counter())
        where.update(node.op_type for node in part.get_nodes())
    return Placement(provider, {name: dict(ops) for name, ops in nodes.items()})


def _options(threads: int, optimized: bool, disabled_fusions: Sequence[str]) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Graphs optimized here are not kept for the next load: that saved 4 to 15 ms of a session's build for MiniLM and 17
    # (fp32) to 38 (int8) for EfficientNet-Lite0, of processor time on x86-64 with AVX2, and hashing them, without which
    # they could not be trusted, took 5 to 128 ms.
    # Shapes change from run to run: memory planned for one is of no use to the next. An arena grows to what the largest
    # runs side by side take, which the plan's budgets bound, and then no more; without it, each thread that calls
    # leaves an arena of the C library's behind, and what those keep goes up and down. Of MiniLM, on x86-64: 20 threads
    # that call fp32 leave 330 MB instead of 425, and of 30,000 mixed texts the last 10,000 add 0.05% instead of 3 to 6.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("optimization.disable_specified_optimizers", ";".join(disabled_fusions))
    # Threads spin within a run, where it saves microseconds at each node, and sleep as soon as it is over.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _check_signature(graph: Path, what: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
    by_name = {value.name: value for value in found}
    names = {spec.name for spec in expected}
    if (what == "input" and set(by_name) != names) or not names <= set(by_name):
        raise GraphError(
            f"{graph} has the {what}s {', '.join(sorted(by_name))}; the manifest says {', '.join(sorted(names))}."
        )
    for spec in expected:
        value = by_name[spec.name]
        dtype = _ORT_DTYPES.get(value.type, value.type)
        if dtype != spec.dtype or len(value.shape) != len(spec.shape):
            raise GraphError(
                f"{graph}: the {what} {spec.name!r} is {dtype} of rank {len(value.shape)}; "
                f"the manifest says {spec.dtype} of rank {len(spec.shape)}."
            )
        for dimension, (stated, extent) in enumerate(zip(spec.shape, value.shape, strict=True)):
            if isinstance(stated, int) and isinstance(extent, int) and stated != extent:
                raise GraphError(
                    f"{graph}: the {what} {spec.name!r} has the extent {extent} in dimension {dimension}; "
                    f"the manifest says {stated}."
                )
