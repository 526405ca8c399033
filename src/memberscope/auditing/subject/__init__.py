"""What is audited: target and records, their labels, classes, duplicates and units."""
