"""Servers that tests talk to, on this machine."""
