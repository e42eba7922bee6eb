"""What a checkpoint says of generating: settings, stop tokens, the format of conversations; as data."""

from __future__ import annotations

from typing import Any

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.generation import Chat, GenerationSettings, Turn

# Formats of conversations that are known by name. They are written out here: no template is executed.
CHATS = {
    "chatml": Chat(
        roles={role: Turn(f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")},
        reply="<|im_start|>assistant\n",
    ),
    "zephyr": Chat(
        roles={role: Turn(f"<|{role}|>\n", "</s>\n") for role in ("system", "user", "assistant")},
        reply="<|assistant|>\n",
    ),
    "llama-3": Chat(
        roles={
            role: Turn(f"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>")
            for role in ("system", "user", "assistant")
        },
        begin="<|begin_of_text|>",
        reply="<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}

# Settings of transformers that say nothing of how tokens are chosen, or that are read elsewhere.
_INERT = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
    "_from_model_config", "max_length", "min_length", "use_cache", "return_dict_in_generate", "output_scores",
    "output_logits", "output_attentions", "output_hidden_states", "cache_implementation", "cache_config", "max_time",
    "num_return_sequences", "remove_invalid_values", "renormalize_logits", "trust_remote_code", "chat_template",
}  # fmt: skip


def stop_tokens(*stated: Any) -> tuple[int, ...]:
    """Token ids from what configs say: a number, a list of them, or nothing; the first that says something."""
    for one in stated:
        if one is not None:
            return tuple(int(token) for token in (one if isinstance(one, list | tuple) else [one]))
    return ()


def of(config: Any, start: int, asked: GenerationSettings | None) -> GenerationSettings:
    """The settings asked for, else those of transformers' GenerationConfig `config`, where sequences begin with `start`
    tokens (0: with a prompt).

    Raises CheckpointError for a setting that Sanderling's decoding does not have: nothing is left out silently.
    """
    if asked is not None:
        return asked
    stated = {name: value for name, value in config.to_diff_dict().items() if value is not None}
    known = set(GenerationSettings.__struct_fields__)
    unknown = sorted(name for name in stated if name not in known | _INERT and stated[name] not in (False, [], {}))
    if unknown:
        raise CheckpointError(
            f"The checkpoint's generation config sets {unknown[0]} ({str(stated[unknown[0]])[:60]}), which Sanderling "
            "does not have. Say in a recipe's table [generation] how tokens are to be chosen."
        )
    found = {name: value for name, value in stated.items() if name in known}
    if start:
        found.setdefault("max_new_tokens", max(1, int(config.max_length or 20) - start))
        found.setdefault("min_new_tokens", max(0, int(config.min_length or 0) - start))
    if not found.get("do_sample"):
        # Settings of drawing, which is not done; the bundle's own are then transformers' defaults.
        found = {name: value for name, value in found.items() if name not in ("temperature", "top_k", "top_p")}
    return _converted(found)


def _converted(found: dict[str, Any]) -> GenerationSettings:
    import msgspec

    try:
        return msgspec.convert(found, GenerationSettings, strict=False)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"The checkpoint's generation config cannot be used: {error}. Say in a recipe's table [generation] how "
            "tokens are to be chosen."
        ) from error


def chat_of(asked: Chat | str | None, template: object) -> tuple[Chat | None, tuple[str, ...]]:
    """The format of conversations asked for, by name or in full; and a note where the checkpoint has a template that
    nothing was said of. Raises ExportError for a name that is not known."""
    if isinstance(asked, str):
        if asked not in CHATS:
            raise ExportError(
                f"chat is {asked!r}; known are {', '.join(CHATS)}. Another format is written out as a table [chat]."
            )
        return CHATS[asked], ()
    if asked is None and template:
        note = (
            "the tokenizer has a chat template, which is a program and was not executed; "
            "say chat in a recipe to have conversations"
        )
        return None, (note,)
    return asked, ()
