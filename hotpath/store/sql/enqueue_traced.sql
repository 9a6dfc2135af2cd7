-- `enqueue`, with a trace carried along: the parameters are the same, and $7 the traceparent.
select hotpath.carry_trace(hotpath.enqueue($1, $2::jsonb, $3, $4, coalesce($5, now()), $6), $7)
