"""Kubernetes: how its API server is reached, what it answers, and connections to what runs behind it.

The only place that imports `kubernetes`, when it is used; `pip install 'zen-mlmd[kubernetes]'` brings it.
"""

from zen_mlmd.cluster.access import Cluster, connect
from zen_mlmd.cluster.api import asking

__all__ = ["Cluster", "asking", "connect"]
