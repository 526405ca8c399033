"""The guard's policy file, and whether it serves what was measured."""
