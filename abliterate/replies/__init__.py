"""Replies as text: refusal rules, openings, thoughts, coherence, labels. No torch."""
