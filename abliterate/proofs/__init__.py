"""The proofs: of the architecture on a clone, of the files, of the stream; and the census of architectures."""
