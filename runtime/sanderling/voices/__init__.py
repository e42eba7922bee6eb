"""What speaks: texts to phonemes, phonemes to frames, frames to samples."""
