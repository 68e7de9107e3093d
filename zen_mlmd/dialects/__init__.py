"""How pipelines lie in MLMD: the only place that knows a type's name or a property's key.

`zen` is the dialect that zen_mlmd writes: TFX's layout, with additions of its own as custom properties
named `zen_mlmd.*`. The others read what other writers left. Each is a module that offers what
`base.Dialect` says; `registry` finds the one that a node is of.
"""
