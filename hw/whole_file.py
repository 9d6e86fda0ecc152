"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["WholeFileError", "check_distinct", "check_writable", "write_whole"]


class WholeFileError(ValueError):
    """A file cannot be written; the message says which, why, and what to do."""


def check_writable(path: str | Path | None) -> None:
    """Refuse a file that could not be written in the end, before long work begins.

    None is accepted, for an option that was left out.

    Raises
    ------
    WholeFileError
    """
    if path is None:
        return
    path = Path(path)
    if path.is_dir():
        raise WholeFileError(f"{path}: cannot be written (it is a folder); give the name of a file")
    if path.exists() and not path.is_file():
        raise WholeFileError(f"{path}: cannot be written (it is no ordinary file); give the name of a file")
    if not path.parent.is_dir():
        what = "is not a folder" if path.parent.exists() else "does not exist"
        raise WholeFileError(f"{path}: cannot be written (the folder {path.parent} {what}); make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise WholeFileError(f"{path}: cannot be written (Permission denied); give a folder that you may "
                             "write to")


def check_distinct(source: str | Path, *outputs: str | Path | None) -> None:
    """Refuse outputs that would overwrite the source or each other; None is one that was left out.

    Raises
    ------
    WholeFileError
    """
    taken = {Path(source).resolve()}
    for path in outputs:
        if path is None:
            continue
        if Path(path).resolve() in taken:
            raise WholeFileError(f"{path}: is given twice, and would be overwritten; give another name")
        taken.add(Path(path).resolve())


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file; text is UTF-8.

    Raises
    ------
    WholeFileError
        If it cannot be written; then there is nothing new.
    """
    path = Path(path)
    check_writable(path)
    # two processes that write the same file must not share what lies beside it
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> WholeFileError:
    return WholeFileError(f"{path}: cannot be written ({error.strerror or error}); check the folder, its "
                          "permissions and the disk")
