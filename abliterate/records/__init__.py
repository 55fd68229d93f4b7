"""What is written about an edit: manifest, observations, cards; the shape of each record."""
