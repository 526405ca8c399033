"""Reports: the result as a document, a web page, a terminal summary, a table of records, and a CI verdict."""

from memberscope.reports.arrays import read_arrays, write_arrays
from memberscope.reports.comparison import compared_summary, comparison_json, comparison_schema, write_comparison
from memberscope.reports.comparison_html import render_comparison, write_comparison_page
from memberscope.reports.document import read_result, schema, to_json, write_result
from memberscope.reports.explain import explain, explain_record, topics
from memberscope.reports.folder import write_all
from memberscope.reports.frontier import frontier_schema, read_frontier, write_frontier
from memberscope.reports.html import render, write_report
from memberscope.reports.junit import junit, write_junit
from memberscope.reports.records import same_records, write_records
from memberscope.reports.terminal import summary
from memberscope.reports.verified import read_verified, read_verified_frontier

__all__ = [
    "compared_summary",
    "comparison_json",
    "comparison_schema",
    "explain",
    "explain_record",
    "frontier_schema",
    "junit",
    "read_arrays",
    "read_frontier",
    "read_result",
    "read_verified",
    "read_verified_frontier",
    "render",
    "render_comparison",
    "same_records",
    "schema",
    "summary",
    "to_json",
    "topics",
    "write_all",
    "write_arrays",
    "write_comparison",
    "write_comparison_page",
    "write_frontier",
    "write_junit",
    "write_records",
    "write_report",
    "write_result",
]
