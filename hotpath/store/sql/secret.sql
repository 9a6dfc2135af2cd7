-- What tokens of this database are signed with.
select value from hotpath.secret
