"""Turn any model object or file into a target."""
