"""One self-contained page about an edited checkpoint: figures, plots, replies, proof, how to repeat it."""
