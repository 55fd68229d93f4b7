"""Live models: where they come from, loading, offloading, forward passes, generation."""
