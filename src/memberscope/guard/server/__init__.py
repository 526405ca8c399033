"""The guard as a server process: assembly, workers, reload and the admin interface."""
