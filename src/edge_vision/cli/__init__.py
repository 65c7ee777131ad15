"""The command `edge_vision`: one file a subcommand."""
