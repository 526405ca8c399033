"""Options of the commands and keys of `audit.toml`: declared, read, documented."""
