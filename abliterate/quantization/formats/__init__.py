"""One file a packed format, and the registry that knows them all."""
