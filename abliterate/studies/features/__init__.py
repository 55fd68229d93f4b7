"""What a direction means: sparse features, words by mutual information, steering by features."""
