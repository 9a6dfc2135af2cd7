-- Whether somebody has answered a run with this token. $1 run; $2 key of the step; $3 nonce of the token.
select exists (select from hotpath.flow_event where run = $1 and key = $2 and nonce = $3)
