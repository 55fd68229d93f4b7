"""Who writes to the residual stream of a model, and where the stream is."""
