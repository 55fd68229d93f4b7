"""Threads on one machine, processes of a launcher, devices."""
