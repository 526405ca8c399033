"""Reference models: who is in which, where they are trained, and what is kept of them."""
