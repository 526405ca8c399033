"""The web page of an audit: its charts' data, sections and template."""
