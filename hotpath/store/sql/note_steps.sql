-- Write what was noted of runs in hand; whether each run's was taken. $1 worker; $2 clock; $3 durable; $4 again; $5 leases, $6 places and $7 ids
-- of the runs; $8 to $18 steps; $19 to $21 marks; $22 to $29 dispatches; $30, $31 early results; $32 to $34 results to cache: see the
-- function, in migration 0005.
select hotpath.note_steps($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
    $27, $28, $29, $30, $31, $32, $33, $34)
