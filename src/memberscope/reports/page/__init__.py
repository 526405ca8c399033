"""Build the web page of an audit: its charts' data, sections and template."""

from memberscope.reports.page.chart_data import build_group_rows
from memberscope.reports.page.environment import build_environment
from memberscope.reports.page.standards_annex import read_standards

__all__ = ["build_environment", "build_group_rows", "read_standards"]
