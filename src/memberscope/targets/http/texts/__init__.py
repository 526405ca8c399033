"""Served language models as targets: proof of what they answer, prompts, and the target itself."""
