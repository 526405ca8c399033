"""memberscope audits machine-learning models for membership inference."""
