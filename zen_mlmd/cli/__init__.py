"""The command line: parse, call the Python API, print. One module a group of commands.

Whatever is more than that belongs into the API. `zen-mlmd --help` imports click and nothing else of
weight: each group's module is imported when one of its commands is called, and what the commands
need (pydantic, rich, ml_metadata) within their functions.
"""
