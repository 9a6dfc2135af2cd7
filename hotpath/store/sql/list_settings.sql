-- For the rest of the transaction, lists go by their keys: a plan made while a partition was empty must not survive its growth.
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
