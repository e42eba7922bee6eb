"""Measures bundles: scenarios, statistics that say what they support, and versioned records of raw samples."""
