"""Models from files, checked before a library that trusts them opens them, and any model object as a target."""
