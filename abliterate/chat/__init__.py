"""A conversation with an edited model, and beside it the same conversation with the original."""
