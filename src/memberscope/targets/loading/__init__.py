"""Any model object or file as a target."""
