"""Build the web page of an audit: its charts' data, sections and template."""

from memberscope.reports.page.standards_annex import read_standards

__all__ = ["read_standards"]
