"""Export of models that hear: their originals, their graphs, and what they are measured on."""
