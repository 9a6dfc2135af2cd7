"""A workspace with a few scripts, and a client of a fresh database."""

import sys
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hotpath.client import open_client

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

SCRIPTS = {
    "add.py": '''
        """Numbers."""
        def main(x: int, y: int = 1) -> int:
            return x + y
    ''',
    "f/team/text.py": """
        def main(text: str) -> int:
            return len(text)
    """,
    "anything.py": """
        def main(**kwargs):
            return kwargs
    """,
    "broken.py": """
        import no_such_module
        def main(): ...
    """,
}


@pytest.fixture
def workspace(tmp_path):
    """A directory with scripts."""
    for name, source in SCRIPTS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
    return tmp_path


@pytest.fixture
def client_of(database_url, workspace):
    """Opens clients of one fresh database."""

    @asynccontextmanager
    async def opened(**options):
        async with open_client(database_url, workspace=workspace, **options) as client:
            yield client

    return opened
