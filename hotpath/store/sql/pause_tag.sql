-- Pause a tag. $1 tag, $2 until when (null: until it is resumed), $3 reason, $4 who does so.
select hotpath.pause_tag($1, $2, $3, $4)
