"""Questions about refusal, a folder each: positions, phases, clusters, features."""
