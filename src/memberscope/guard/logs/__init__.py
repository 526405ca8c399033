"""Write log files: access and alerts by day, and the guard's own log."""
