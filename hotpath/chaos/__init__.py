"""`hotpath chaos`: workers are shot, frozen and cut off while jobs run, and then every job is accounted for.

The jobs themselves write a ledger (`ledger`), the producers keep a list of what was acknowledged (`produce`);
neither goes through the database. A seeded plan (`plan`) says what goes wrong when; `inject` does it to real
`hotpath dedicate` commands (`commands`), to a private PostgreSQL (`cluster`) and to the network (`proxy`).
`check` compares ledger, list and database, and trusts none of them alone.
"""
