"""Records in memory: data frames, arrays, lists and several inputs, through one entrance."""
