"""Questions about refusal, a folder each, and what they share: statistics of cosines, verdicts, the record."""
