"""How far a normal worker's next claim looks, and how much it chooses: as little as will do."""

from __future__ import annotations

import attrs

from hotpath.store.mixed import FEWEST, MAX_JOBS

MAX_STRETCH = 1 << 14
"""Times as much as there is room for that a claim chooses at most: behind a locked job of half an hour."""
MAX_WIDTH = 32
"""Times `MAX_JOBS` that it looks at and chooses at most: behind so many that are locked."""


@attrs.frozen
class Reach:
    """Of one claim."""

    depth: int = FEWEST
    """Jobs that it looks at of each tag and priority, `width` times."""
    width: int = 1
    """Times `MAX_JOBS` that it chooses at most."""
    stretch: int = 1
    """Times as much as there is room for that it chooses: claims before it found all of that locked."""

    @property
    def is_whole(self) -> bool:
        """Whether it looks at as much as any claim does."""
        return self.depth >= MAX_JOBS

    def after(self, jobs: int, *, saw: bool, more: bool) -> Reach:
        """Of the next claim, when this one got so many jobs; whether it `saw` some and got none, and whether
        there are `more` behind those that it looked at.
        """
        # As much as others hold: what is locked for long must not keep all that is behind it waiting.
        stretch = min(2 * self.stretch, MAX_STRETCH) if saw else 1
        if saw and self.is_whole:
            return Reach(self.depth, min(2 * self.width, MAX_WIDTH), stretch)
        # Deep looks are for where all that is taken comes from few places.
        depth = min(MAX_JOBS, 4 * self.depth) if more else max(FEWEST, 2 * jobs, self.depth // 2)
        return Reach(depth, 1, stretch)

    def deep(self) -> Reach:
        """The same, looking at as much as any claim does."""
        return attrs.evolve(self, depth=MAX_JOBS)
