"""Errors raised on purpose, and the exit code of each kind.

MemberscopeError
├── InputError          2  the user's data, files or options
│   ├── UnsafeFileError 2  a file that could run code was refused
│   └── UnmetNeedError  2  an attack was given evidence that lacks what it needs
└── TargetError         4  the audited model failed while it was queried
"""

from __future__ import annotations


class MemberscopeError(Exception):
    """Base of every error that this package raises on purpose.

    `exit_code` is what the CLI returns.
    """

    exit_code = 4


class InputError(MemberscopeError):
    """The caller's data, file or option is not usable.

    One sentence of the form `Expected X, got Y. Do Z`.
    """

    exit_code = 2


class UnsafeFileError(MemberscopeError):
    """A file format that can run code was refused.

    `--trust-code` or `--trust-type` is the way to accept it.
    """

    exit_code = 2


class UnmetNeedError(MemberscopeError):
    """An attack was asked to score evidence that lacks something it declares in `needs`."""

    exit_code = 2


class TargetError(MemberscopeError):
    """The audited model raised, hung or returned something unusable while it was queried."""

    exit_code = 4
