"""`hotpath serve`: the HTTP API, the WebSocket and the page. Nothing else imports it."""
