-- Alert $1, for whoever changes it: nobody moves it meanwhile.
select * from hotpath.alert where name = $1 for update
