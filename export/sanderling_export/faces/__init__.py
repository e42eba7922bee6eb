"""Faces: detector, landmarks, recognition and attributes, rebuilt in torch from TensorFlow.js weights."""
