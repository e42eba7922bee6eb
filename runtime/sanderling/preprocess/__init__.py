"""Inputs to arrays, by modality: pure functions of what the manifest says."""
