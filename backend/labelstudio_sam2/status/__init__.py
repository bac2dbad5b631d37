"""The page for people who look at the server in a browser: how it does, and what to do."""
