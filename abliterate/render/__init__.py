"""What the verbs show: results as rich tables, and as the one JSON object of `--json`. Nothing is printed here."""
