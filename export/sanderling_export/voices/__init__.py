"""Voices: text to speech, imported from Piper's ONNX graphs or converted from transformers, cut in three."""
