"""Is there one refusal direction, or are there several: each prompt's own, clustered, and what each cluster does."""
