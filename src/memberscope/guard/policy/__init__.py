"""Read the guard's policy file and check it against what was measured."""
