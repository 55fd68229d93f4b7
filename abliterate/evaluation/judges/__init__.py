"""Who says what a reply is: rules, a classifier, a model on a server."""
