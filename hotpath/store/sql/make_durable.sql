-- Something to commit, which the disk is waited for with: all that was committed before is there then, too.
select pg_logical_emit_message(true, 'hotpath', '')
