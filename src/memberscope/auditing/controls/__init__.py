"""Controls: checks that an audit must pass before its verdict counts."""
