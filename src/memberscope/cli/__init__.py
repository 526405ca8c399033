"""The command line: one file a verb in `commands` and `guard`, every option a row in `options`."""
