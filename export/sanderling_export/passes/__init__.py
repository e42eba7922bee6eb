"""Rewriting passes: one file each, each proven on the graph at hand before it is kept."""
