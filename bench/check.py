"""Every job exactly one row, each result right: or the run fails."""

from __future__ import annotations

import attrs

from bench.context import connect
from bench.registry import CheckFailed

# Of jobs `first` to `last` by their `n`: rows, distinct ones, failures, wrong results; the first is not the
# job's id but what the loader numbered, so that a job run under another id would show.
_COUNTS = """
select count(*) as rows, count(distinct (d.args->>'n')::int) as jobs, count(distinct d.id) as ids,
    count(*) filter (where d.state <> 1) as failed,
    count(*) filter (where d.state = 1 and d.args->>'n' is distinct from
        case json_typeof(d.result) when 'array' then d.result->>0 else d.result::text end) as wrong,
    min(d.id::text) filter (where d.state <> 1) as failed_id,
    min(d.error->>'message') as message
from hotpath.job_done d join hotpath.script s on s.id = d.script
where s.name = $1 and (d.args->>'n')::int >= $2 and (d.args->>'n')::int < $3
"""
_LEFT = """
select (select count(*) from hotpath.job_queue q where q.script = s.id and (q.args->>'n')::int < $2)
    + (select count(*) from hotpath.batch b where b.script = s.id and b.ids is null) + (select count(*) from
    hotpath.lease l join hotpath.batch b on b.base = l.batch where b.script = s.id and $3)
from hotpath.script s where s.name = $1
"""
# Rows of one run by the flush that wrote them: `done_at` is its transaction's start.
_SPAN = """
select count(*) as jobs, count(distinct done_at) as flushes,
    extract(epoch from min(done_at))::float8 as first_flush,
    extract(epoch from max(done_at))::float8 as last_flush,
    (select count(*) from hotpath.job_done e where e.script = s.id and e.done_at = max(d.done_at)) as in_last,
    extract(epoch from min(started_at))::float8 as started,
    extract(epoch from max(started_at + duration_us * interval '1 microsecond'))::float8 as ended,
    sum(duration_us)::float8 / 1e6 as inside
from hotpath.job_done d join hotpath.script s on s.id = d.script
where s.name = $1 and (d.args->>'n')::int >= $2 and (d.args->>'n')::int < $3 group by s.id
"""


@attrs.frozen
class Span:
    """When the jobs of a run ran, by the rows they left; seconds since the epoch, by the database's clock."""

    jobs: int
    flushes: int
    first_flush: float
    last_flush: float
    in_last: int
    """Jobs of the last flush."""
    started: float
    """Start of the first job."""
    ended: float
    """End of the last job."""
    inside: float
    """Seconds inside `main`, of all jobs together."""

    @property
    def flush_rate(self) -> float:
        """Jobs a second from the first flush to the last, of which neither start-up nor shut-down is part."""
        seconds = self.last_flush - self.first_flush
        return (self.jobs - self.in_last) / seconds if seconds > 0 else float("nan")

    @property
    def run_rate(self) -> float:
        """Jobs a second from the first job's start to the last one's end."""
        return self.jobs / (self.ended - self.started)

    @property
    def inside_share(self) -> float:
        """Share of the time from the first start to the last end that was spent inside `main`."""
        return self.inside / (self.ended - self.started)


async def check(
    url: str, script: str, jobs: int, *, first: int = 0, results: bool = True, emptied: bool = True
) -> None:
    """Raise CheckFailed unless jobs `first` to `first + jobs` have one row each, and the right `results`.

    With `emptied`, nothing of the script may be left waiting or leased either.
    """
    async with connect(url) as connection:
        row = await connection.fetchrow(_COUNTS, script, first, first + jobs)
        left = await connection.fetchval(_LEFT, script, first + jobs, emptied) if emptied else 0
    assert row is not None
    faults = []
    if not row["rows"] == row["jobs"] == row["ids"] == jobs:
        faults.append(
            f"{row['rows']} rows of {row['jobs']} jobs ({row['ids']} ids) where {jobs} jobs were enqueued"
        )
    if row["failed"]:
        faults.append(f"{row['failed']} failed, such as {row['failed_id']}: {row['message']}")
    if results and row["wrong"]:
        faults.append(f"{row['wrong']} have a wrong result")
    if left:
        faults.append(f"{left} rows are still waiting or leased")
    if faults:
        raise CheckFailed(f"{script}: {'; '.join(faults)}")


async def span(url: str, script: str, *, first: int = 0, jobs: int = 1 << 30) -> Span:
    """Times of the jobs `first` to `first + jobs`, from their rows."""
    async with connect(url) as connection:
        row = await connection.fetchrow(_SPAN, script, first, first + jobs)
    if row is None:
        raise CheckFailed(f"{script}: no job ran")
    return Span(**dict(row))
