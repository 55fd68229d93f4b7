"""Both sides in a browser, live: a page that this machine serves to itself."""
