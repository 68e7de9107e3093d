"""The mysql flavor on a MySQL 9, whose only login plugins are caching_sha2_password and sha256_password.

Debian has no such server: ZEN_MLMD_TEST_MYSQL9 names one, as mysql://user:password@host:port, whose user may
make databases.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pymysql
import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
import zen_mlmd.tfx
from tests.services.mlmd_suite import assert_suite_passes
from tests.sql.places import server_place
from tests.sql.test_limits import Opened, check_signed_zeros
from zen_mlmd.errors import LoginDeniedError, LoginPluginError, TlsError
from zen_mlmd.flavors import config_from_url
from zen_mlmd.server import Server, ServerConfig

SERVER = os.environ.get("ZEN_MLMD_TEST_MYSQL9", "")

pytestmark = [
    pytest.mark.mysql,
    pytest.mark.skipif(
        not SERVER, reason="ZEN_MLMD_TEST_MYSQL9 names no MySQL 9 (mysql://user:password@host:port)"
    ),
]


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a database that is not there yet."""
    name = f"zen_{secrets.token_hex(6)}"
    yield f"{SERVER}/{name}"
    parts = urlsplit(SERVER)
    with (
        pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")


def works(store: zm.Store) -> bool:
    with store:
        with store.record_run("churn", parameters={"lr": 1e-7, "n": 2**40}) as run, run.step("train") as step:
            step.log_output("model", uri="s3://bucket/é", properties={"auc": 1 / 3})
        found = store.get_run(run.name)
        model = found.steps["train"].outputs["model"]
        return (found.parameters["lr"], model.properties["auc"], model.uri) == (1e-7, 1 / 3, "s3://bucket/é")


def test_it_works_as_it_comes(database: str) -> None:
    assert works(zm.open_store(database, create=True))
    assert works(zm.open_store(f"{database}?tls=true"))


def test_what_does_not_work_is_told(database: str) -> None:
    zm.open_store(database, create=True).close()
    with pytest.raises(LoginPluginError, match="caching_sha2_password"):
        zm.open_store(f"{database}?service=native")
    with pytest.raises(LoginDeniedError):
        zm.open_store(database.replace(f":{urlsplit(SERVER).password}@", ":wrong@"))
    with pytest.raises(TlsError):  # its certificate is of an authority of its own
        zm.open_store(f"{database}?ssl_verify_server_cert=true")


def test_tfx_gets_it_through_a_server_of_ours(database: str) -> None:
    """TFX uses ml-metadata's own client, which speaks none of its login plugins."""
    with zm.open_store(database, create=True) as store:
        with pytest.raises(LoginPluginError, match="caching_sha2_password") as caught:
            zen_mlmd.tfx.connection_config(store)
        assert "zen-mlmd serve" in caught.value.hint
    with Server(database, ServerConfig.checked(bind="127.0.0.1:0", log="none")) as server:
        theirs = MetadataStore(zen_mlmd.tfx.connection_config(f"kubeflow://{server.address}"))
        assert theirs.put_context_type(mlmd.ContextType(name="pipeline")) > 0
        del theirs


def test_the_sign_of_zero_is_kept(database: str) -> None:
    zm.open_store(database, create=True).close()
    opened = Opened(server_place(database))
    check_signed_zeros(opened)
    opened.service.close()


def test_mlmds_own_suite_passes(database: str, tmp_path: Path) -> None:
    config = ServerConfig(bind="127.0.0.1:0", log="none")
    with Server(config_from_url(database), config, create=True) as server:
        assert_suite_passes(tmp_path, server.address)
