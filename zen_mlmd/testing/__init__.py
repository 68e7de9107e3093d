"""Contract suites for authors of custom flavors: `pip install 'zen-mlmd[testing]'`.

from zen_mlmd.testing import StoreContract

class TestTeamStore(StoreContract):
    @pytest.fixture
    def config(self, tmp_path):
        return TeamConfig(root=str(tmp_path), team="fraud")
"""

from zen_mlmd.testing.store_contract import StoreContract

__all__ = ["StoreContract"]
