"""Tests of zen_mlmd: `unit` needs nothing, `integration` starts the servers of `services`."""
