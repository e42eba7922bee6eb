"""Export of models that generate: decoders with key-value caches, and the encoders that they listen to."""
