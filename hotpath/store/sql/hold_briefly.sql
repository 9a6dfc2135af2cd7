-- From here on the transaction holds a lease's row, so its client may not be silent for long: a dead one's would keep everybody waiting.
select set_config('idle_in_transaction_session_timeout', '10s', true)
