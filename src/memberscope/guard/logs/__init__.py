"""Log files: access, alerts and operation, rotated day by day."""
