"""Arrays of the server's own types: their numbers are the same in every PostgreSQL, as those of the types
that asyncpg knows, which looks up arrays all the same.

That look-up is the most expensive thing a new session does (15 ms of the server's processor, planned anew in
each), for something that never changes.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

_ARRAYS = {
    199: (114, "json"),
    1000: (16, "bool"),
    1001: (17, "bytea"),
    1002: (18, "char"),
    1003: (19, "name"),
    1005: (21, "int2"),
    1007: (23, "int4"),
    1009: (25, "text"),
    1014: (1042, "bpchar"),
    1015: (1043, "varchar"),
    1016: (20, "int8"),
    1021: (700, "float4"),
    1022: (701, "float8"),
    1028: (26, "oid"),
    1041: (869, "inet"),
    1115: (1114, "timestamp"),
    1182: (1082, "date"),
    1183: (1083, "time"),
    1185: (1184, "timestamptz"),
    1187: (1186, "interval"),
    1231: (1700, "numeric"),
    2951: (2950, "uuid"),
    3807: (3802, "jsonb"),
}
"""By number of an array's type, that of its elements and their name."""


def known_arrays(oids: AbstractSet[int]) -> list[dict[str, Any]]:
    """Those of these types that are such arrays, as the catalog describes them."""
    return [
        {
            "oid": oid,
            "ns": "pg_catalog",
            "name": f"_{name}",
            "kind": b"b",
            "basetype": None,
            "elemtype": element,
            "elemdelim": b",",
            "range_subtype": None,
            "attrtypoids": None,
            "attrnames": None,
            "elemtype_name": name,
        }
        for oid in oids & _ARRAYS.keys()
        for element, name in (_ARRAYS[oid],)
    ]
