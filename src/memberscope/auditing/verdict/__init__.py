"""From estimates and a policy to findings, a verdict and its words; and a stored result checked again."""
