"""What is in one Python source file: the example that `hotpath demo` runs on the whole standard library."""

from __future__ import annotations

import ast
from pathlib import Path


def main(path: str) -> dict:  # type: ignore[type-arg] # as people type it
    """Count functions, classes, imports and lines of the Python file at `path`; name its longest function.

    Raises SyntaxError for a file that is not Python: the job then ends in `failure`, and the others go on.
    """
    source = Path(path).read_bytes()  # bytes: the file itself says how it is encoded
    functions = classes = imports = 0
    longest_name, longest_lines = "", 0
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > longest_lines:
                longest_name, longest_lines = node.name, lines
        elif isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports += len(node.names)
    return {
        "functions": functions,
        "classes": classes,
        "imports": imports,
        "lines": len(source.splitlines()),
        "longest_function": {"name": longest_name, "lines": longest_lines},
    }
