"""A small world of coloured shapes: pictures, captions, questions, clips. Its grammar is docs/world.md."""
