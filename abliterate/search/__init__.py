"""The search: strengths per layer and site, and the direction itself, by gradient."""
