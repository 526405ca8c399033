"""Two or more audits side by side."""
