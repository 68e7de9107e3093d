"""Contract suites for authors of custom flavors: `pip install 'zen-mlmd[testing]'`; see docs/flavors.md."""

from zen_mlmd.testing.store_contract import StoreContract

__all__ = ["StoreContract"]
