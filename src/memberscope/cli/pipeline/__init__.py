"""What a pipeline of releases runs besides the audit: jobs of CI, options of the gate, `log`."""
