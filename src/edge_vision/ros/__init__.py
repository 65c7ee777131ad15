"""What every node shares: transport, adapters, parameters, statistics, the node base and the pipeline container."""
