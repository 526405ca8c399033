"""From an audit to `guard.toml`: what may be served, with the measurement it rests on."""
