"""The whole run: options, opening a model or an edit, finding, the run itself."""
