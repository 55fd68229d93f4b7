"""The residual stream, captured: at which places, kept where, and its geometry."""
