"""Sanderling's embedding models in other libraries: one small file each, which alone imports the library.

None is imported by `sanderling` itself.
"""
