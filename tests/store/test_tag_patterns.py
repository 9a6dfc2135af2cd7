"""`hotpath.tag_listened` says what `core/tags.py` says."""

from __future__ import annotations

import itertools
import random

from hotpath import asyncpg_trio
from hotpath.core.tags import parse_patterns
from hotpath.errors import UsageError


async def test_sql_says_the_same(database_url: str) -> None:
    """For patterns and tags of all awkward characters."""
    chance = random.Random(5)
    texts = ["".join(one) for size in (1, 2, 3) for one in itertools.product("a*!%_\\", repeat=size)]
    cases = []
    while len(cases) < 2000:
        patterns = chance.choices(texts, k=chance.randint(1, 3))
        try:
            cases.append((patterns, chance.choice(texts), parse_patterns(patterns)))
        except UsageError:
            continue
    connection = await asyncpg_trio.connect(database_url)
    try:
        for patterns, tag, parsed in cases:
            said = await connection.fetchval("select hotpath.tag_listened($1, $2)", tag, patterns)
            assert said is parsed.listens(tag), (patterns, tag)
    finally:
        await connection.close()
