"""Directions: how they are made, kept, scored and chosen."""
