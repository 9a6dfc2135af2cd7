-- Forget what was said of watched jobs more than $1 seconds ago, and who watched until then.
with gone as (delete from hotpath.live_log where said_at < now() - $1::float8 * interval '1 second'),
left_behind as (delete from hotpath.watch where until < now() - $1 * interval '1 second')
select
