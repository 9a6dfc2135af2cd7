-- Notes which scripts a flow's version runs. $1 version, $2 scripts, $3 their versions, if they are written in the flow, else null.
insert into hotpath.version_step (version, script, step) select $1::int4, script, step from unnest($2::int4[], $3::int4[]) as s (script, step)
on conflict (version, script) do update set step = excluded.step where version_step.step is distinct from excluded.step
