"""Say which records a guard can read: what its policy declares, and what its sketch was fitted to."""

from __future__ import annotations

from dataclasses import replace

from memberscope.errors import InputError
from memberscope.guard.hashing.canonical import RecordForm
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.sketching.sketcher import read_sketch_form


def load_record_form(policy: GuardPolicy) -> RecordForm:
    """Load the form of records that a policy declares, and its sketch where there is one.

    Raises:
        InputError: The sketch cannot be read, or was made for other columns or types.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> load_record_form(parse_guard_policy({"serving": {"n_classes": 3, "columns": ["a"]}})).columns
    ('a',)
    """
    watch = policy.monitor
    declared = policy.serving.form
    if not watch.enabled or watch.sketch is None:
        return declared
    path = policy.path(watch.sketch)
    # Where it is missing, the monitor's start says so
    return join_record_forms(declared, read_sketch_form(path)) if path.is_file() else declared


def join_record_forms(declared: RecordForm, sketched: RecordForm) -> RecordForm:
    """Join what a policy declares of records with what its sketch was fitted to.

    Raises:
        InputError: They are of other columns or types.

    >>> join_record_forms(RecordForm(("a", "b")), RecordForm(width=2, numeric=(0,))).numeric
    (0,)
    """
    columns = sketched.columns or declared.columns
    if (declared.columns and columns != declared.columns) or len(columns) not in (
        0,
        sketched.width,
    ):
        raise InputError(
            f"Expected a sketch of the columns {', '.join(declared.columns)} in [serving], got one "
            f"of {', '.join(sketched.columns) or f'{sketched.width} values'}. Make it anew with "
            "memberscope guard prepare."
        )
    if {*declared.dtypes} != {*sketched.dtypes} or (
        len(declared.dtypes) > 1 and declared.dtypes != sketched.dtypes
    ):
        raise InputError(
            f"Expected a sketch of records of dtype {', '.join(declared.dtypes)}, got "
            f"{', '.join(sketched.dtypes)}. Make it anew with memberscope guard prepare."
        )
    return replace(
        sketched,
        columns=columns,
        numeric=tuple(sorted({*declared.numeric, *sketched.numeric})),
        coercion=declared.coercion,
    )
