"""A decoder graph as steps: its key-value cache stays on the device, and each run reads what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling.decode.names import DECODER_INPUTS, PAST, PLACES, PRESENT
from sanderling.decode.scores import Scores, Tokens
from sanderling.errors import BundleError
from sanderling.schema.variants import Component

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.session import Engine, Held, Start

# Where there is no token, a position that every model has (as transformers').
_NOWHERE = 1


class CachedSteps:
    """Rows of tokens through a decoder graph. Made for one call, used by one thread.

    Prompts are padded on the left; padding is masked, and positions count the tokens of each row alone, so that a row's
    answer is the one it has by itself.
    """

    def __init__(self, engine: Engine, component: Component, output: str, pad: int, fixed: Held | None = None) -> None:
        self._names = {spec.name for spec in component.inputs}
        self._output = output
        self._pad = pad
        self._engine = engine
        self._component = component
        self._fixed = fixed
        self._mask: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._alike = False

    def start(self, prompts: Sequence[Tokens], cancellation: Cancellation | None = None) -> Scores:
        """Read prompts of any lengths: logits of each one's next token (prompts, vocabulary), float32."""
        self._chain = self._engine.chain(links(self._component), empty(self._component, len(prompts)), self._fixed)
        ids, self._mask = padded(prompts, self._pad)
        self._alike = len(prompts) == 1
        return self._run(ids, positions(self._mask), cancellation)

    def next(self, tokens: Tokens, cancellation: Cancellation | None = None) -> Scores:
        """Read one more token of each row (rows,): logits (rows, vocabulary), float32."""
        self._mask = np.concatenate([self._mask, np.ones((len(tokens), 1), np.int64)], axis=1)
        return self._run(tokens[:, None], positions(self._mask)[:, -1:], cancellation)

    def read(
        self, tokens: Tokens, count: int, cancellation: Cancellation | None = None
    ) -> tuple[Scores, dict[str, NDArray[np.float32]]]:
        """Read one sequence of tokens (n,) in one run: logits (count, vocabulary) of its last `count` places, and the
        decoder's other outputs that are no cache."""
        chain = self._engine.chain(links(self._component), empty(self._component, 1), self._fixed)
        ids, mask = padded([tokens], self._pad)
        feeds = given(ids, mask, positions(mask))
        feeds[PLACES] = np.arange(len(tokens) - count, len(tokens))[None]
        made = chain.run({name: array for name, array in feeds.items() if name in self._names}, cancellation)
        logits = made.pop(self._output)
        return np.asarray(logits[0], np.float32), made

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Go on with these of the rows, in this order."""
        if not np.array_equal(order, np.arange(len(self._mask))):
            # Beams of one prompt listen to the same encoding, whichever of them goes on.
            self._chain.reorder(order, fixed=not self._alike or len(order) != len(self._mask))
            self._mask = self._mask[order]

    def _run(self, ids: Tokens, places: Tokens, cancellation: Cancellation | None) -> Scores:
        feeds = {name: array for name, array in given(ids, self._mask, places).items() if name in self._names}
        logits = self._chain.run(feeds, cancellation)[self._output]
        return np.asarray(logits[:, -1], np.float32)


def given(ids: Tokens, mask: Tokens, places: Tokens) -> dict[str, NDArray[np.int64]]:
    """A decoder's inputs beside its caches, asked for the logits of each row's last token: ids (rows, new), the mask
    (rows, past and new), positions (rows, new)."""
    last = np.full((len(ids), 1), ids.shape[1] - 1, np.int64)
    return dict(zip(DECODER_INPUTS, (ids, mask, places, last), strict=True))


def padded(prompts: Sequence[Tokens], pad: int) -> tuple[Tokens, Tokens]:
    """Prompts as (prompts, longest), padded on the left, and their mask: 1 where there is a token."""
    longest = max(len(prompt) for prompt in prompts)
    ids, mask = np.full((len(prompts), longest), pad, np.int64), np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def positions(mask: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of each token among those of its row that are there, from 0."""
    return np.where(mask == 0, _NOWHERE, mask.cumsum(axis=1) - 1)


def links(component: Component) -> dict[str, str]:
    """Which outputs are which inputs of the next step."""
    names = {spec.name for spec in component.inputs}
    found = {spec.name: PAST + spec.name.removeprefix(PRESENT) for spec in component.outputs}
    return {output: given for output, given in found.items() if output.startswith(PRESENT) and given in names}


def empty(component: Component, rows: int) -> Mapping[str, Start]:
    """What stands for the past before the first step: arrays (rows, heads, 0, size). Raises BundleError."""
    from sanderling.session import Start

    found = {}
    for spec in component.inputs:
        if not spec.name.startswith(PAST):
            continue
        heads, size = (spec.shape[1], spec.shape[3]) if len(spec.shape) == 4 else ("?", "?")
        if not isinstance(heads, int) or not isinstance(size, int):
            raise BundleError(
                f"The decoder's input {spec.name!r} has the shape {spec.shape}; (batch, heads, past, size), with "
                "numbers for heads and size, was expected. Export the bundle again."
            )
        found[spec.name] = Start(spec.dtype, (rows, heads, 0, size))
    return found
