"""The post-execution API: the records of `zen_mlmd.model` with the questions one asks of them."""
