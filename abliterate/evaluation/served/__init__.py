"""Replies of models on a server."""
