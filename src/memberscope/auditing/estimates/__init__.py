"""From scores to estimates: rates with intervals, diagnostics, epsilon, and records by themselves."""
