"""torch modules as targets: how they are called, and what their outputs are."""
