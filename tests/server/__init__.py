"""The MLMD gRPC server, asked as its clients do."""
