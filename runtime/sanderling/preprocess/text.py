"""Text to token ids: the tokenizer of the bundle, with truncation and padding as the manifest states them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sanderling.errors import BundleError, TextError
from sanderling.pairs import TextPair
from sanderling.results import TextReport
from sanderling.schema.preprocessing import TextPreprocessing

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

# A text is read in two steps, from the side that is kept, until it has given more tokens than the model takes. The
# first is long enough that ordinary texts are read whole; the second bounds time: it takes about half a second.
_FIRST_READ = 64 * 1024
_LAST_READ = 256 * 1024
# Where tokens are so long, or a model takes so many, that the second step would not fill it, more is read.
_CHARACTERS_A_TOKEN = 16
# The word at which the reading stopped may be cut through and give other tokens: none this near to it is kept.
_MARGIN = 4 * 1024
# So much of a text is made into windows: about 2,000 of 256 tokens, a minute's work for a small model.
_WINDOWS_READ = 2 * 1024 * 1024

# The graph inputs that a text is made into.
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_IDS: NDArray[np.int64] = np.zeros(0, np.int64)


class Encoded(Struct, frozen=True, eq=False):
    """One text as the model sees it: `ids` and `type_ids` of the shape (tokens,), int64, special tokens included."""

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    report: TextReport

    @property
    def length(self) -> int:
        return len(self.ids)


class Windows(Struct, frozen=True, eq=False):
    """One text as a model sees it in several windows, from its beginning to its end."""

    encoded: tuple[Encoded, ...]
    report: TextReport


class TextEncoder:
    """Encodes texts as the manifest's `preprocessing.text` says. Safe to use from many threads."""

    def __init__(self, tokenizer_json: bytes, settings: TextPreprocessing, where: str) -> None:
        self.settings = settings
        self._where = where
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except BaseException as error:
            raise _translated(
                error, BundleError(f"{where} is no tokenizer: {error}. Export the bundle again.")
            ) from error
        # Never what happens to stand in tokenizer.json: all-MiniLM's pads every text to 128.
        self._tokenizer.no_padding()
        if settings.max_tokens <= self._tokenizer.num_special_tokens_to_add(False):
            raise BundleError(f"{where}: max_tokens is {settings.max_tokens}, no more than the special tokens alone.")
        self._tokenizer.enable_truncation(settings.max_tokens, direction=settings.truncation_side)
        self._unknown = _unknown(self._tokenizer)
        self._others: dict[str, Tokenizer] = {}
        self._prompt_tokens: dict[str, int] = {}
        self._lock = threading.Lock()
        self._last_read = max(_LAST_READ, _CHARACTERS_A_TOKEN * settings.max_tokens)

    def encode(
        self, texts: Sequence[str | TextPair], prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> list[Encoded]:
        """Encode each text or pair of texts, truncated to `max_tokens`.

        `prompt` names one of the manifest's prompts (default: its `default_prompt`); of a pair it is put before the
        first text.
        Raises TextError: not a string, a lone surrogate, an unknown prompt, a failure inside the tokenizer;
        CancelledError or DeadlineError as `cancellation` says, between texts.
        """
        prefix = self._prompt(prompt)
        leading = self._leading(prefix) if prefix else 0
        # One text by itself, as most are, needs no list of anything.
        if len(texts) == 1 or any(isinstance(text, TextPair) for text in texts):
            return [self._one(text, index, prefix, leading, cancellation) for index, text in enumerate(texts)]
        prepared = [self._prepare(text, index, prefix) for index, text in enumerate(texts)]
        pieces = [self._piece(text, _FIRST_READ) for text in prepared]
        encoded: list[Encoded] = []
        for part in _parts(pieces):
            if cancellation is not None:
                cancellation.check()
            for encoding, piece, text in zip(self._encode(pieces[part]), pieces[part], prepared[part], strict=True):
                if cancellation is not None and len(piece) < len(text):
                    cancellation.check()  # a long text may have to be read a second time
                encoded.append(self._finish(encoding, piece, text, leading))
        return encoded

    def windows(self, texts: Sequence[str], cancellation: Cancellation | None = None) -> list[Windows]:
        """Encode each text in as many windows of at most `max_tokens` as it needs, from its beginning.

        Neighbouring windows share the tokens that the manifest's `long_text.stride` says. A text is read up to about
        two million characters; its report counts the rest.
        Raises TextError: as `encode`; a pair of texts; a model whose manifest says nothing of windows.
        """
        long_text = self.settings.long_text
        if long_text is None:
            raise TextError(
                "This bundle does not say how windows of a long text are made (long_text is null). "
                'Call with long_text="truncate", or export it again with [long_text] in its recipe.'
            )
        for index, text in enumerate(texts):
            if isinstance(text, TextPair):
                raise TextError(
                    f'Input {index} is a pair of texts, and windows are made of single texts; use long_text="truncate".'
                )
        prefix = self._prompt(None)
        whole = [self._prepare(text, index, prefix) for index, text in enumerate(texts)]
        pieces = [text[:_WINDOWS_READ] for text in whole]
        found = []
        for part in _parts(pieces):
            if cancellation is not None:
                cancellation.check()
            encodings = self._encode(pieces[part], "windows")
            for encoding, piece, text in zip(encodings, pieces[part], whole[part], strict=True):
                made = tuple(self._encoded(window) for window in (encoding, *encoding.overflowing))
                tokens = sum(window.length for window in made)
                unknown = sum(window.report.tokens_unknown for window in made)
                report = TextReport(tokens, 0, len(text) - len(piece), len(made), tokens_unknown=unknown)
                found.append(Windows(made, report))
        return found

    @property
    def room(self) -> int:
        """Tokens of a text that the model sees, beside the special ones."""
        return int(self.settings.max_tokens - self._tokenizer.num_special_tokens_to_add(False))

    def offsets(self, text: str) -> NDArray[np.int64]:
        """The first character of each token of a text, and the one after its last: (tokens, 2), int64.

        Nothing is truncated, added or stripped. Raises TextError as `encode`.
        """
        self._prepare(text, 0, "")
        lower = text.lower() if self.settings.lowercase else text
        # A few letters become several in lower case: then the places are those of the text as it is.
        piece = lower if len(lower) == len(text) else text
        tokenizer = self._tokenizer_for("whole")
        try:
            found = tokenizer.encode(piece, add_special_tokens=False).offsets
        except BaseException as error:
            raise _translated(error, TextError(f"The tokenizer {self._where} failed on a text: {error}")) from error
        return np.array(found, np.int64).reshape(-1, 2)

    def pad(
        self, batch: Sequence[Encoded], names: Sequence[str], length: int | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Stack encoded texts to the graph inputs `names`, each of the shape (batch, length), int64.

        `length` (default: the longest text's) must be no less than that. Padded positions have the manifest's
        padding ids and an `attention_mask` of 0.
        """
        settings = self.settings
        if len(batch) == 1 and length is None and batch[0].length:
            only = batch[0]
            single = {"input_ids": only.ids[None], "token_type_ids": only.type_ids[None]}
            single["attention_mask"] = np.ones((1, only.length), np.int64)
            return {name: single[name] for name in names if name in single}
        longest = max(encoded.length for encoded in batch) if length is None else length
        shape = (len(batch), max(longest, 1))
        arrays = {
            "input_ids": np.full(shape, settings.pad_token_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.full(shape, settings.pad_token_type_id, np.int64),
        }
        for row, encoded in enumerate(batch):
            start = 0 if settings.padding_side == "right" else shape[1] - encoded.length
            span = slice(start, start + encoded.length)
            arrays["input_ids"][row, span] = encoded.ids
            arrays["attention_mask"][row, span] = 1
            arrays["token_type_ids"][row, span] = encoded.type_ids
        return {name: arrays[name] for name in names if name in arrays}

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no characters are U+FFFD. Raises TextError."""
        try:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        except BaseException as error:
            raise _translated(error, TextError(f"The tokenizer {self._where} failed on tokens: {error}")) from error

    def bare(self, text: str) -> NDArray[np.int64]:
        """The tokens (n,) of a text without special ones around it, int64; nothing is truncated. Raises TextError."""
        prepared = self._prepare(text, 0, "")
        if len(prepared) > self._last_read:
            raise TextError(f"The text has {len(prepared):,} characters; at most {self._last_read:,} are read.")
        try:
            found = self._tokenizer_for("whole").encode(prepared, add_special_tokens=False).ids
        except BaseException as error:
            raise _translated(error, TextError(f"The tokenizer {self._where} failed on a text: {error}")) from error
        return np.array(found, np.int64)

    def token(self, place: int) -> str:
        """The token of an id, as it stands in the vocabulary; "[place]" for one that the tokenizer does not have."""
        found = self._tokenizer.id_to_token(place)
        return f"[{place}]" if found is None else str(found)

    def _prompt(self, name: str | None) -> str:
        name = self.settings.default_prompt if name is None else name
        if name is None:
            return ""
        if not isinstance(name, str) or name not in self.settings.prompts:
            known = ", ".join(map(repr, self.settings.prompts)) or "none"
            raise TextError(f"This model has no prompt named {name!r}; it has {known}.")
        return self.settings.prompts[name]

    def _prepare(self, text: object, index: int, prefix: str) -> str:
        if not isinstance(text, str):
            raise TextError(f"Input {index} is of type {type(text).__name__}; a text (str) was expected.")
        if not text.isascii() and (found := _SURROGATE.search(text)):
            raise TextError(
                f"Text {index} holds a lone surrogate, U+{ord(found[0]):04X}, at position {found.start()}, so it is no "
                "valid Unicode. Decode its source with errors='replace', or clean it with "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
            )
        text = prefix + text
        if self.settings.strip:
            text = text.strip()
        return text.lower() if self.settings.lowercase else text

    def _piece(self, text: str, length: int) -> str:
        return text[-length:] if self.settings.truncation_side == "left" else text[:length]

    def _leading(self, prefix: str) -> int:
        """Tokens that a prompt is made into, with the special ones before it but not behind it.

        Counted on the prompt alone, as sentence-transformers does for models that leave it out of their pooling.
        """
        with self._lock:
            if prefix not in self._prompt_tokens:
                encoding = self._encode([self._prepare("", 0, prefix)])[0]
                last = bool(len(encoding) and encoding.special_tokens_mask[-1])
                self._prompt_tokens[prefix] = len(encoding) - last
            return self._prompt_tokens[prefix]

    def _one(
        self, text: str | TextPair, index: int, prefix: str, leading: int, cancellation: Cancellation | None
    ) -> Encoded:
        if cancellation is not None:
            cancellation.check()
        if isinstance(text, TextPair):
            return self._pair(text, index, prefix, leading)
        prepared = self._prepare(text, index, prefix)
        piece = self._piece(prepared, _FIRST_READ)
        return self._finish(self._encode([piece])[0], piece, prepared, leading)

    def _pair(self, pair: TextPair, index: int, prefix: str, leading: int) -> Encoded:
        if pair.truncation not in ("longest_first", "only_first"):
            raise TextError(
                f"Input {index} is truncated by {pair.truncation!r}; longest_first or only_first was expected."
            )
        whole = (self._prepare(pair.text, index, prefix), self._prepare(pair.text_pair, index, ""))
        # Which of two texts is cut depends on the length of both, so that neither is read in steps.
        pieces = (self._piece(whole[0], self._last_read), self._piece(whole[1], self._last_read))
        encoding = self._encode([pieces], pair.truncation)[0]
        lost = len(self._encode([pieces], "whole")[0]) - len(encoding) if encoding.overflowing else 0
        unread = sum(map(len, whole)) - sum(map(len, pieces))
        return self._encoded(encoding, lost, unread, leading)

    def _finish(self, encoding: Encoding, piece: str, text: str, leading: int) -> Encoded:
        if len(piece) < len(text) and not self._settled(encoding, len(piece)):
            piece = self._piece(text, self._last_read)
            encoding = self._encode([piece])[0]
        lost = sum(len(cut) - sum(cut.special_tokens_mask) for cut in encoding.overflowing)
        return self._encoded(encoding, lost, len(text) - len(piece), leading)

    def _encoded(self, encoding: Encoding, lost: int = 0, unread: int = 0, leading: int = 0) -> Encoded:
        ids = encoding.ids
        if not ids:
            return Encoded(_NO_IDS, _NO_IDS, TextReport(0, lost, unread, prompt_tokens=leading))
        unknown = 0 if self._unknown is None else ids.count(self._unknown)
        report = TextReport(len(ids), lost, unread, 1, leading, unknown)
        return Encoded(np.array(ids, np.int64), np.array(encoding.type_ids, np.int64), report)

    def _settled(self, encoding: Encoding, read: int) -> bool:
        """Whether reading on would leave the kept tokens as they are."""
        if not encoding.overflowing:
            return False
        spans = [
            span for span, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
        ]
        if self.settings.truncation_side == "left":
            first: int = min(start for start, _ in spans)
            return first >= _MARGIN
        last: int = max(end for _, end in spans)
        return last <= read - _MARGIN

    def _encode(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], truncation: str = "longest_first"
    ) -> list[Encoding]:
        tokenizer = self._tokenizer_for(truncation)
        try:
            if len(texts) == 1:
                only = texts[0]
                return [tokenizer.encode(only) if isinstance(only, str) else tokenizer.encode(*only)]
            return list(tokenizer.encode_batch(texts))
        except BaseException as error:
            raise _translated(error, TextError(f"The tokenizer {self._where} failed on a text: {error}")) from error

    def _tokenizer_for(self, truncation: str) -> Tokenizer:
        """How a tokenizer truncates is a state of its own, shared by all threads: each way has one, made when used."""
        if truncation == "longest_first":
            return self._tokenizer
        with self._lock:
            if truncation not in self._others:
                self._others[truncation] = self._other(truncation)
            return self._others[truncation]

    def _other(self, truncation: str) -> Tokenizer:
        settings = self.settings
        made = Tokenizer.from_str(self._tokenizer.to_str())
        if truncation == "whole":
            made.no_truncation()
        elif truncation == "only_first":
            made.enable_truncation(settings.max_tokens, strategy="only_first", direction=settings.truncation_side)
        else:
            assert settings.long_text is not None  # windows() asks for it
            stride, room = settings.long_text.stride, settings.max_tokens - made.num_special_tokens_to_add(False)
            if stride >= room:
                raise BundleError(
                    f"{self._where}: windows share {stride} tokens (long_text.stride), "
                    f"but have room for {room} beside the special ones. Export the bundle again."
                )
            made.enable_truncation(settings.max_tokens, stride=stride)
        return made


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The token that stands for whatever the vocabulary has no token for; None where there is no such."""
    # Of a Unigram model the binding does not tell which it is: all that are in use call it so.
    name = getattr(tokenizer.model, "unk_token", "<unk>")
    return None if name is None else cast("int | None", tokenizer.token_to_id(name))


def _parts(texts: Sequence[str]) -> Iterator[slice]:
    """Runs of texts that are encoded in one go: some seconds of work are cut where a call may end early."""
    start = characters = 0
    for index, text in enumerate(texts):
        characters += len(text)
        if characters >= _LAST_READ:
            yield slice(start, index + 1)
            start, characters = index + 1, 0
    if start < len(texts):
        yield slice(start, len(texts))


def _translated(error: BaseException, replacement: Exception) -> BaseException:
    """A panic inside the tokenizer (Rust) derives from BaseException alone; it and ordinary errors are translated."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return replacement
    return error
