"""Other hosts, as those who are up there say: their clocks, and how servers listen."""

from __future__ import annotations

import socket

from hotpath import __version__
from hotpath.doctor.finding import Finding, error, warning
from hotpath.doctor.links import APART, FAR_APART, apart_by
from hotpath.doctor.patient import Patient
from hotpath.store.servers import GONE


async def clocks(patient: Patient) -> list[Finding]:
    """Whether clocks of hosts with workers or servers are that of the database; `links` has this one's."""
    found = []
    for row in await patient.rows("doctor_clocks", GONE):
        sure = abs(row["apart"]) - row["unsure"]
        if sure < APART or row["host"] == socket.gethostname():
            continue
        which = "ahead of" if row["apart"] > 0 else "behind"
        text = (
            f"the database's clock is {abs(row['apart']):.1f} s {which} that of {row['host']}, as "
            f"{row['seen_by']} sees it"
        )
        mend = f"timedatectl set-ntp true, on {row['host']} and on the database's host"
        make = error if sure >= FAR_APART else warning
        evidence = apart_by(row["apart"], row["unsure"])
        found.append(make("clock", text, mend, host=row["host"], seen_by=row["seen_by"], **evidence))
    return found


async def servers(patient: Patient) -> list[Finding]:
    """Servers that others reach without TLS, or that run another version."""
    found = []
    for row in await patient.rows("doctor_servers", GONE):
        name = f"`hotpath serve` on {row['host']} (process {row['pid']})"
        if not row["is_loopback"] and not row["is_secure"]:
            text = f"{name} listens on {row['address']} without TLS: tokens travel in the clear"
            mend = "give it --certfile; or --public-url https://NAME, where TLS stands before it"
            found.append(warning("serve", text, mend, **dict(row)))
        if row["program"] != __version__:
            text = f"{name} runs hotpath {row['program']}; this is {__version__}"
            mend = "upgrade hotpath-runtime there, and restart it"
            found.append(warning("versions", text, mend, host=row["host"], program=row["program"]))
    return found
