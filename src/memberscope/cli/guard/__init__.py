"""The commands of `memberscope guard`."""
