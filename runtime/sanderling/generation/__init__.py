"""What writes: rules of its bundles, prompts and questions, and what is answered."""
