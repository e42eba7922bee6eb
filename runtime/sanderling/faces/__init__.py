"""What is behind faces: fronts, golden samples, and what is answered."""
