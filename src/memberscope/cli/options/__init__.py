"""The options of the commands: declared as rows, read from flags, variables and `audit.toml`."""
