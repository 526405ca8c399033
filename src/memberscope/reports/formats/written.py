"""Write a result in a format that another program reads; the suffix of the file says which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memberscope._files import name_repository_path, write_bytes
from memberscope._text import suggest_nearest
from memberscope.auditing import Result
from memberscope.errors import InputError
from memberscope.reports.formats.cyclonedx import render_cyclonedx
from memberscope.reports.formats.junit import render_junit
from memberscope.reports.formats.markdown import render_markdown
from memberscope.reports.formats.model_card import render_model_card
from memberscope.reports.formats.pdf import render_pdf
from memberscope.reports.formats.sarif import render_sarif

# Longest suffix first, as `.card.md` ends in `.md`
SUFFIXES = {
    ".card.md": "model-card",
    ".cdx.json": "cyclonedx",
    ".sarif.json": "sarif",
    ".sarif": "sarif",
    ".xml": "junit",
    ".md": "markdown",
    ".pdf": "pdf",
}

# Writing over one of these would destroy the audit that is read
AUDIT_FILES = ("result.json", "arrays.safetensors", "records.csv")


def list_formats() -> list[str]:
    """List the names of the formats.

    >>> list_formats()
    ['cyclonedx', 'junit', 'markdown', 'model-card', 'pdf', 'sarif']
    """
    return sorted(set(SUFFIXES.values()))


def find_format(path: str | Path, format: str | None = None) -> str:
    """Find the format of a file: the one that is given, else that of its suffix.

    Raises:
        InputError: There is no such format, or the suffix stands for none.

    >>> find_format("out/model.card.md"), find_format("bom.json", "cyclonedx")
    ('model-card', 'cyclonedx')
    """
    if format is not None:
        if format not in list_formats():
            raise InputError(
                f"Expected the format {', '.join(list_formats())}, got {format!r}."
                f"{suggest_nearest(format, list_formats())} Give one of them."
            )
        return format
    name = Path(path).name.lower()
    for suffix, found in SUFFIXES.items():
        if name.endswith(suffix):
            return found
    raise InputError(
        f"Expected a file that ends in {', '.join(SUFFIXES)}, got {str(path)!r}. Rename it, or say "
        f"with --format which of {', '.join(list_formats())} it is."
    )


def render_format(
    result: Result,
    format: str,
    *,
    document: str | Path | None = None,
    show_ids: bool = False,
) -> bytes:
    """Render a result in a format.

    `document` is where its result.json is, or the folder of that. Only a PDF names records, by keyed
    hashes or, if `show_ids`, by their ids.

    Raises:
        InputError: There is no such format, or what a PDF needs is not installed.
    """
    format = find_format("", format)
    place = None if document is None else Path(document)
    # A result.json is named by its folder in the next command, and by itself in code scanning
    folder = place if place is None or place.suffix != ".json" else place.parent
    if format == "pdf":
        return render_pdf(result, show_ids=show_ids)
    if format == "sarif":
        file = None if folder is None else name_repository_path(folder / "result.json")
        return render_sarif(result, file).encode()
    if format == "markdown":
        return render_markdown(result, None if folder is None else str(folder)).encode()
    render = {
        "junit": render_junit,
        "model-card": render_model_card,
        "cyclonedx": render_cyclonedx,
    }[format]
    return render(result).encode()


def write_format(
    result: Result,
    path: str | Path,
    format: str | None = None,
    *,
    document: str | Path | None = None,
    show_ids: bool = False,
) -> Path:
    """Write a result in the format that the suffix of `path` says, whole or not at all.

    Args:
        result: What an audit gave, or `memberscope.load`.
        path: The file; its folder is made where it does not exist.
        format: The format, where the suffix does not say it.
        document: Where result.json is, or its folder: named in the next command and, where no
            configuration is known, as the place of findings.
        show_ids: Whether a PDF names records by their ids.

    Returns:
        The path.

    Raises:
        InputError: There is no such format, it cannot be written, or what a PDF needs is missing.

    >>> write_format(None, "result.docx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    memberscope.errors.InputError: Expected a file that ends in .card.md, ..., got 'result.docx'. ...
    """
    (written,) = write_formats(result, [path], format, document=document, show_ids=show_ids)
    return written


def write_formats(
    result: Result,
    paths: Sequence[str | Path],
    format: str | None = None,
    *,
    document: str | Path | None = None,
    show_ids: bool = False,
) -> list[Path]:
    """Write a result to several files, each in the format of its suffix.

    All are rendered before the first is written, so that a mistake leaves none behind.

    Raises:
        InputError: As `write_format`; or `format` is given for other than one file, or two paths
            are the same.
    """
    refuse_mistaken_files(paths, format)
    rendered = [
        render_format(result, find_format(path, format), document=document, show_ids=show_ids)
        for path in paths
    ]
    for path, data in zip(paths, rendered, strict=True):
        write_bytes(Path(path), data)
    return [Path(path) for path in paths]


def refuse_mistaken_files(paths: Sequence[str | Path], format: str | None = None) -> None:
    """Refuse files to write that cannot be meant, before anything is computed.

    Raises:
        InputError: A suffix or `format` is unknown, `format` is given for other than one file, or
            two paths are the same, are folders, or have the name of a file of an audit.
    """
    if format is not None and len(paths) != 1:
        raise InputError(
            f"Expected one --write beside --format, got {len(paths)}. Give one, or leave out "
            "--format where suffixes say it."
        )
    seen: set[Path] = set()
    for path in paths:
        find_format(path, format)
        place = Path(path).absolute()
        if place in seen:
            raise InputError(
                f"Expected another name for each --write, got {str(path)!r} twice. Rename one."
            )
        if place.name in AUDIT_FILES:
            raise InputError(
                f"Expected a name for --write that no file of an audit has, got {str(path)!r}. Choose "
                "another."
            )
        if place.is_dir():
            raise InputError(
                f"Expected a file for --write, got the folder {str(path)!r}. Add a name to it."
            )
        seen.add(place)
