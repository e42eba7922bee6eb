"""The names of a decoder's inputs and outputs, as docs/bundle-format.md specifies them."""

from __future__ import annotations

PAST, PRESENT, CROSS = "past_key_values.", "present.", "cross_key_values."
INPUT_IDS, MASK, POSITIONS, PLACES = "input_ids", "attention_mask", "position_ids", "logits_positions"
DECODER_INPUTS = (INPUT_IDS, MASK, POSITIONS, PLACES)
# What a vision encoder says of a picture, (batch, seen, size), to the graph that reads the question.
IMAGE = "image_embeds"
