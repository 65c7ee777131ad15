"""A page in a browser for what runs without a screen: `server.Server` serves a `control.Control`."""
