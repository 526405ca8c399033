"""The history on the command line: keep what was audited, list it, show it as a page."""
