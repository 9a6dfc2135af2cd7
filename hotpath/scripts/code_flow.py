"""Whether a script is a flow that is code: one whose own source calls `hotpath.step` or the like."""

from __future__ import annotations

import ast

STEPS = frozenset({"step", "gather", "sleep", "approval"})
"""Names of `hotpath` that only a flow has a use for."""


def is_code_flow(source: bytes) -> bool:
    """Whether the source mentions one of them, by whatever name it has imported `hotpath`."""
    if b"hotpath" not in source or not any(name.encode() in source for name in STEPS):
        return False
    try:
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError):
        return False  # whoever loads it will say so
    modules = set()
    for node in nodes:
        match node:
            case ast.Import(names=names):
                modules |= {each.asname or each.name for each in names if each.name == "hotpath"}
                # `import hotpath.testing` binds `hotpath` too
                modules |= {
                    "hotpath" for each in names if each.name.startswith("hotpath.") and not each.asname
                }
            case ast.ImportFrom(module="hotpath", level=0, names=names):
                if any(each.name in STEPS for each in names):
                    return True
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in STEPS
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
        for node in nodes
    )
