"""Weights in a packed format: what the format is, unpacking, packing again."""
