"""The files of an audit's folder: result, arrays, records and JUnit."""
