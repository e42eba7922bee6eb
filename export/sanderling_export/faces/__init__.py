"""Faces: a detector, 68 landmarks, a recognition network and attributes, rebuilt in torch from TensorFlow.js weights."""
