"""Fitted scikit-learn pipelines and forecasting models to bundles: converted step by step, and checked row by row."""
