"""What runs in the peers' own environments: `serve.py`, and one file for each library, none of which needs Sanderling.

A file has `load(folder, settings)`, which gives a callable: a list of inputs and call settings to rows of float32, one
for each input. Texts are str, images PIL images. `folder` holds the models that `convert.py` made.
"""
