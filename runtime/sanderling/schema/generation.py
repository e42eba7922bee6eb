"""What a graph that writes answers, in the manifest: settings, turns of a conversation, tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import Count, Name


class GenerationSettings(Struct, frozen=True):
    """How tokens are chosen, one after the other; transformers' names and meanings.

    With `num_beams` above 1 by beam search, with `do_sample` drawn by `temperature`, `top_k` (0: all) and `top_p`,
    else the most probable each time. `length_penalty` and `early_stopping` are beam search's.
    """

    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    min_new_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    num_beams: Annotated[int, Meta(ge=1, le=64)] = 1
    length_penalty: Annotated[float, Meta(ge=-10.0, le=10.0)] = 1.0
    early_stopping: bool | Literal["never"] = False
    do_sample: bool = False
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 50
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    no_repeat_ngram_size: Annotated[int, Meta(ge=0, le=1000)] = 0


class Turn(Struct, frozen=True):
    """What stands before and after the words of one role in a conversation."""

    before: Annotated[str, Meta(max_length=10_000)] = ""
    after: Annotated[str, Meta(max_length=10_000)] = ""


class Chat(Struct, frozen=True):
    """A conversation as one prompt: `begin`, the turns by their `roles`, then `reply`, after which the model answers.

    This is text and nothing else: no template is executed.
    """

    roles: Annotated[dict[Name, Turn], Meta(min_length=1, max_length=20)]
    begin: Annotated[str, Meta(max_length=10_000)] = ""
    reply: Annotated[str, Meta(max_length=10_000)] = ""


class PicturePrompt(Struct, frozen=True):
    """How a picture and a question are one prompt, for a decoder that reads both.

    `template` is the text around the question, which stands in the place of `{}`; it holds the text of the tokenizer's
    `token` once, and in the tokens of the whole that one is repeated `count` times: what the vision encoder says of the
    picture is read in their places.
    """

    token: Count
    count: Annotated[int, Meta(ge=1, le=100_000)]
    template: Annotated[str, Meta(max_length=10_000)]


class SpeechTokens(Struct, frozen=True):
    """Tokens of the vocabulary that mean something to a model of Whisper's kind, and what follows what.

    A sequence begins with `start_token_ids`, a language of `languages` and `transcribe` or `translate` (of models of
    several languages), and `no_timestamps`, where times are not asked for. The tokens from `timestamps` on are times,
    0.02 seconds apart; the first of a sequence is at most `first_timestamp` of them late. `suppressed` are never
    generated, `suppressed_first` not first. `no_speech` is how probable it is that nobody speaks, read behind the
    start; `previous` begins what was said before. `alignment_heads` are the layers and heads of cross-attention that
    follow the words, in the order of the decoder's output `alignment`.
    """

    no_timestamps: Count
    timestamps: Count
    languages: Annotated[dict[Name, Count], Meta(max_length=1000)] = {}
    transcribe: Count | None = None
    translate: Count | None = None
    no_speech: Count | None = None
    previous: Count | None = None
    first_timestamp: Count | None = 50
    suppressed: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()
    suppressed_first: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()
    alignment_heads: Annotated[tuple[tuple[Count, Count], ...], Meta(max_length=10_000)] = ()


class GenerationOutput(Struct, frozen=True, tag_field="type", tag="generation"):
    """`output` of the component `decoder`, logits over a `vocabulary`, to tokens one after the other, and to text.

    Generation ends with one of `stop_token_ids`. A sequence begins with `start_token_ids` where it is not a prompt, and
    never has more than `context` tokens, those of the prompt included. `settings` are what a call does unless it says
    otherwise. With `clean_up_spaces` the blanks before punctuation that a tokenizer leaves are taken out of the text.
    `picture` says how a picture gets into a prompt, where it does.
    """

    output: str
    vocabulary: Annotated[int, Meta(ge=1, le=10_000_000)]
    context: Annotated[int, Meta(ge=2, le=10_000_000)]
    stop_token_ids: Annotated[tuple[Count, ...], Meta(max_length=100)] = ()
    start_token_ids: Annotated[tuple[Count, ...], Meta(max_length=1000)] = ()
    settings: GenerationSettings = GenerationSettings()
    clean_up_spaces: bool = False
    chat: Chat | None = None
    picture: PicturePrompt | None = None
    speech: SpeechTokens | None = None
