"""The files of an audit's folder: result, arrays and records."""
