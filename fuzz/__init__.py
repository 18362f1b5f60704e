"""Documents that nobody would write on purpose, and what has to hold of every one of them."""
