"""The search for the fastest and the smallest variant that hold a floor."""
