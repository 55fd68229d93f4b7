"""Checkpoints on disk: shards, their index, copying with edits, the names of tensors."""
