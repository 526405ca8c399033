"""Write reports: the result as a document, page, summary, table of records and CI verdict."""

from memberscope.reports.citations import Citation, list_citations
from memberscope.reports.comparison_html import render_comparison, write_comparison_page
from memberscope.reports.comparison_terminal import (
    comparison_schema,
    format_comparison_json,
    print_comparison,
    write_comparison,
)
from memberscope.reports.explain import explain, explain_record, list_topics
from memberscope.reports.files.arrays_file import read_arrays, write_arrays
from memberscope.reports.files.audit_folder import write_all
from memberscope.reports.files.baseline_folder import (
    check_baseline_folder,
    keep_baseline,
    read_baseline,
)
from memberscope.reports.files.records_csv import is_records_file_current, write_records
from memberscope.reports.files.result_json import (
    format_result_json,
    read_result,
    result_schema,
    write_result,
)
from memberscope.reports.files.verified_files import read_verified, read_verified_frontier
from memberscope.reports.formats import (
    find_format,
    list_formats,
    refuse_mistaken_files,
    render_format,
    render_junit,
    write_format,
    write_formats,
    write_junit,
)
from memberscope.reports.frontier import (
    frontier_schema,
    print_frontier,
    read_frontier,
    write_frontier,
)
from memberscope.reports.notebook import (
    Plots,
    RocPoints,
    build_estimate_frame,
    build_plots,
    build_record_frame,
    build_roc_points,
    build_score_frame,
    describe_result,
    load,
    name_stage,
    open_progress,
    render_card,
    save_result,
    show_progress,
)
from memberscope.reports.page.report_html import render_report, write_report
from memberscope.reports.registries import (
    MlflowPlace,
    list_logged_metrics,
    list_logged_params,
    list_logged_tags,
    log_to_mlflow,
)
from memberscope.reports.sets import (
    print_set_result,
    read_set_result,
    save_set_result,
    set_result_schema,
)
from memberscope.reports.terminal import print_summary
from memberscope.reports.waived_findings import write_advice

__all__ = [
    "Citation",
    "MlflowPlace",
    "Plots",
    "RocPoints",
    "build_estimate_frame",
    "build_plots",
    "build_record_frame",
    "build_roc_points",
    "build_score_frame",
    "check_baseline_folder",
    "comparison_schema",
    "describe_result",
    "explain",
    "explain_record",
    "find_format",
    "format_comparison_json",
    "format_result_json",
    "frontier_schema",
    "is_records_file_current",
    "keep_baseline",
    "list_citations",
    "list_formats",
    "list_logged_metrics",
    "list_logged_params",
    "list_logged_tags",
    "list_topics",
    "load",
    "log_to_mlflow",
    "name_stage",
    "open_progress",
    "print_comparison",
    "print_frontier",
    "print_set_result",
    "print_summary",
    "read_arrays",
    "read_baseline",
    "read_frontier",
    "read_result",
    "read_set_result",
    "read_verified",
    "read_verified_frontier",
    "refuse_mistaken_files",
    "render_card",
    "render_comparison",
    "render_format",
    "render_junit",
    "render_report",
    "result_schema",
    "save_result",
    "save_set_result",
    "set_result_schema",
    "show_progress",
    "write_advice",
    "write_all",
    "write_arrays",
    "write_comparison",
    "write_comparison_page",
    "write_format",
    "write_formats",
    "write_frontier",
    "write_junit",
    "write_records",
    "write_report",
    "write_result",
]
