-- Say to a run that waits behind a step that it may go on, or not. $1 run; $2 key of the step; $3 payload; $4 whether it is approved; $5 by whom;
-- $6 nonce of the token.
select hotpath.resume($1, $2, $3::json, $4, $5, $6)
