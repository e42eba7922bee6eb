"""The parts of `bundle.json`, by what they are of; `manifest` has the whole."""
