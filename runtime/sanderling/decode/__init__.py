"""Autoregressive decoding: scores, beams, loops over a key-value cache, and text as it comes."""
