"""`zen-mlmd serve`: the MLMD gRPC service in front of any store.

`Server` starts worker processes and looks after them; each is one asyncio gRPC server with one store.
`serve` runs one until a signal ends it, which is what the command line does.
"""

from zen_mlmd.server.config import ServerConfig
from zen_mlmd.server.supervisor import Server, serve

__all__ = ["Server", "ServerConfig", "serve"]
