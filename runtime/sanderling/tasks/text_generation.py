"""`text-generation`: a text continued by a causal language model, at once or piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode.names import PLACES
from sanderling.decode.settings import GenerationOptions
from sanderling.engines import Engines
from sanderling.errors import InputError, TextError
from sanderling.generation.prompt_front import PromptFront, first_step
from sanderling.generation.results import Generation, Generations, TextStream
from sanderling.model import in_thread
from sanderling.plan import Plan
from sanderling.results import TextReport
from sanderling.schema.generation import GenerationOutput
from sanderling.tasks.generating import Asked, Clock, Generator, Given

# Tokens of a text whose logits are made in one run.
_READ_AT_ONCE = 128

if TYPE_CHECKING:
    from sanderling.fronts import TextInput

    Message = Mapping[str, str]


class TextGenerator(Generator):
    """Continues texts."""

    def __init__(
        self, bundle: Bundle, plan: Plan, front: PromptFront, engines: Engines, head: GenerationOutput
    ) -> None:
        super().__init__(bundle, plan, front, engines, engines.single, head, front.encoder)
        self._prompts = front

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: str,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompts: Iterable[str],
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generations: ...
    def generate(
        self,
        prompts: str | Iterable[str],
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """Continue one prompt, or each of a list; `options` are fields of the bundle's `settings` to be others.

        Generation ends at a stop token, before one of the strings `stop`, after `max_new_tokens`, or where the context
        is full, and the result says which. With `do_sample` tokens are drawn, the same ones again for the same `seed`;
        a prompt of a list is drawn for by its place. `cancellation` ends the call between or within steps.
        One prompt gives a Generation, a list Generations. Raises InputError: no text, an empty prompt, one beyond the
        context, settings out of range; InferenceError, CancelledError, DeadlineError.
        """
        clock, asked = Clock(), self._asked(options, stop, seed)
        items, single = self.front.items(prompts)
        given = self._given(items, cancellation)
        found = self._all(given, asked, clock, cancellation)
        return found[0] if single else Generations(tuple(found), clock.timing())

    __call__ = generate

    def stream(
        self,
        prompt: str,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> TextStream:
        """Continue one prompt piece by piece: an iterator of pieces of text, whose `result` is there at its end.

        Arguments and errors as of `generate`; with beams no token is certain before the end, so that they are refused.
        """
        clock, asked = Clock(), self._asked(options, stop, seed)
        if not isinstance(prompt, str):
            raise TextError(f"stream() was given one {type(prompt).__name__}; one prompt (str) was expected.")
        (given,) = self._given([prompt], cancellation)
        return self._stream(given, asked, clock, cancellation)

    async def acall(
        self,
        prompts: str | Iterable[str],
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """As `generate`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.generate
        return await in_thread(
            lambda cancellation: call(prompts, stop=stop, seed=seed, cancellation=cancellation, **options)
        )

    def tokens(self, text: str) -> int:
        """How many tokens a text has, special ones included, up to the context; one more for a longer text."""
        (encoded,) = self._encoder.encode([text])
        return encoded.length + (not encoded.report.complete)

    def log_probabilities(self, text: str, *, cancellation: Cancellation | None = None) -> NDArray[np.float64]:
        """The natural logarithm of the probability of each token of a text but the first, given those before it.

        float64 of the shape (tokens - 1,). Of a text longer than the context its beginning is read. The exponential of
        their mean, negated, is the perplexity. Raises TextError, InferenceError, CancelledError, DeadlineError.
        """
        self._engines.check()
        (encoded,) = self._encoder.encode([text], None, cancellation)
        ids = encoded.ids
        found = np.zeros(max(0, len(ids) - 1), np.float64)
        for first in range(0, len(found), _READ_AT_ONCE):
            places = np.arange(first, min(first + _READ_AT_ONCE, len(found)))
            # The places' logits alone are made: those of a long text's whole vocabulary would take gigabytes.
            feeds = first_step([ids[: places[-1] + 1]], self._component, self._encoder.settings.pad_token_id)
            if PLACES in feeds:
                feeds[PLACES] = places[None]
            logits = self._decoder.run(feeds, cancellation)[self._head.output][0, -len(places) :].astype(np.float64)
            highest = logits.max(axis=1)
            total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
            found[places] = logits[np.arange(len(places)), ids[places + 1]] - total
        return found

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> TextStream:
        """Answer a conversation, piece by piece as `stream`: messages with a `role` and a `content`, the last one first
        answered. Raises InputError for a model without a format of conversations, a role that it does not have, or a
        content that holds one of the format's own marks."""
        clock, asked = Clock(), self._asked(options, stop, seed)
        ids = self._encoder.bare(self.conversation(messages))
        self._prompts.check(ids, 0)
        return self._stream(Given(ids, TextReport(len(ids))), asked, clock, cancellation)

    def conversation(self, messages: Sequence[Message]) -> str:
        """The prompt that a conversation is made into. Errors as of `chat`."""
        chat = self._head.chat
        if chat is None:
            raise InputError(
                f"{self.name} says nothing of conversations; give generate() a prompt, or export it with [chat] in its "
                "recipe."
            )
        marks = {mark.strip() for turn in chat.roles.values() for mark in (turn.before, turn.after)} - {""}
        marks |= {chat.begin.strip(), chat.reply.strip()} - {""}
        found = [chat.begin]
        for place, message in enumerate(messages):
            if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
                raise InputError(f"Message {place} is {message!r:.80}; a dict of role and content was expected.")
            turn, content = chat.roles.get(message["role"]), message["content"]
            if turn is None:
                raise InputError(
                    f"Message {place} has the role {message['role']!r}; this model knows {', '.join(chat.roles)}."
                )
            if not isinstance(content, str):
                raise TextError(f"Message {place} has a content of type {type(content).__name__}; a text was expected.")
            if held := next((mark for mark in sorted(marks) if mark in content), None):
                raise InputError(
                    f"Message {place} holds {held!r}, which begins or ends a turn of this model: its writer could "
                    "speak in another role. Take it out of the text."
                )
            found.append(turn.before + content + turn.after)
        return "".join([*found, chat.reply])

    def _given(self, items: list[TextInput], cancellation: Cancellation | None) -> list[Given]:
        self._engines.check()
        for place, item in enumerate(items):
            if not isinstance(item, str):
                raise TextError(f"Input {place} is of type {type(item).__name__}; a prompt (str) was expected.")
        encoded = self._prompts.prepare(items, None, cancellation)
        return [Given(one.ids, one.report) for one in encoded]

    def _all(
        self, given: Sequence[Given], asked: Asked, clock: Clock, cancellation: Cancellation | None
    ) -> list[Generation]:
        clock.prepared()
        found: dict[int, Generation] = {}
        # Prompts of about one length share their steps: little padding is read.
        order = sorted(range(len(given)), key=lambda place: len(given[place].tokens))
        size = 1 if asked.settings.num_beams > 1 else self._together
        for first in range(0, len(order), size):
            places = order[first : first + size]
            batch = [given[place] for place in places]
            answers = self._continued(batch, places, None, asked, clock, cancellation)
            found |= dict(zip(places, answers, strict=True))
        return [found[place] for place in range(len(given))]

    def _stream(self, given: Given, asked: Asked, clock: Clock, cancellation: Cancellation | None) -> TextStream:
        self._check_streamed(asked)
        self._engines.check()

        def pieces() -> Iterator[str | Generation]:
            clock.prepared()
            yield from self._streamed(given, None, asked, clock, cancellation)

        return TextStream(pieces())
