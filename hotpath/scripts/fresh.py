"""Modules of a workspace are compiled from what their files hold now, never taken from `__pycache__`.

Python takes bytecode for that of a file if second and size of the last change are the same. A script that is
deployed twice within a second, or checked out of a repository, may have that; and a version would run the
code of another one.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType

_INSTALLED = ("site-packages", "dist-packages")
_roots: set[str] = set()


class FreshLoader(SourceFileLoader):
    """Compiles the file, whatever bytecode lies beside it, and leaves none."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the module, as its file is now."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def compile_below(root: str) -> None:
    """From now on do so with all modules at and below this directory, save packages installed there."""
    root = os.path.abspath(root)
    if root in _roots:
        return
    if not _roots:
        sys.path_hooks.insert(0, _finder_of)
    _roots.add(root)
    for path in [path for path in sys.path_importer_cache if _is_meant(path)]:
        del sys.path_importer_cache[path]


def _is_meant(path: str) -> bool:
    path = os.path.abspath(path)
    if not any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in _roots):
        return False
    # A virtual environment may lie within the workspace; what is installed has bytecode that fits.
    return not any(part in _INSTALLED for part in path.split(os.sep)) and not path.startswith(
        (sys.base_prefix + os.sep + "lib", sys.prefix + os.sep + "lib")
    )


def _finder_of(path: str) -> FileFinder:
    if not _is_meant(path) or not os.path.isdir(path):
        raise ImportError(path)
    return FileFinder(
        path,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (FreshLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
