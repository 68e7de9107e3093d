"""Rows that another client than ml-metadata wrote into MySQL are read, and harm no list that has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.services.mariadb import MariaDb
from tests.sql.places import Place, server_place
from tests.sql.twins import database_of
from zen_mlmd.service.sql import foreign_text
from zen_mlmd.service.sql.service import SqlService

OURS = ("plain", "l'été", "日本 \N{PILE OF POO}", "Ã©", "\x81\x9d")


@pytest.fixture(autouse=True)
def nothing_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_text, "_met", [])


def _uris(service: SqlService) -> list[str]:
    found = service.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts
    return [each.uri for each in sorted(found, key=lambda each: each.id)]


@pytest.mark.mysql
@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_what_another_client_wrote_is_read_beside_what_mlmd_wrote(mariadb: MariaDb, charset: str) -> None:
    name = mariadb.new_database()
    mariadb.sql(f"ALTER DATABASE {name} CHARACTER SET {charset} COLLATE {charset}_bin")
    place = server_place(mariadb.url(name))
    store = place.native()
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=each) for each in OURS])
    foreign = ["ü", "a é b"] + (["é漢\N{PILE OF POO}"] if charset == "utf8mb4" else [])
    with SqlService(database_of(place)) as service:
        assert _uris(service) == list(OURS)
        for each in foreign:  # by a client that says utf8mb4
            mariadb.sql(f"INSERT INTO {name}.Artifact (type_id, uri) VALUES ({type_id}, %s)", each)
        assert _uris(service) == [*OURS, *foreign]
        assert foreign_text._met
        again = rpc.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=type_id, uri="après")])
        service.call("PutArtifacts", again)
        assert _uris(service) == [*OURS, *foreign, "après"]
        (last,) = store.get_artifacts_by_uri("après")
        assert last.uri == "après", "what is written is written as ever"
    mariadb.drop_database(name)


@pytest.mark.mysql
def test_a_foreign_text_that_is_met_first_in_a_property_is_read_too(mariadb: MariaDb) -> None:
    name = mariadb.new_database()
    place = server_place(mariadb.url(name))
    store = place.native()
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=OURS[1])])
    mariadb.sql(
        f"INSERT INTO {name}.ArtifactProperty (artifact_id, name, is_custom_property, string_value)"
        f" VALUES ({artifact_id}, 'p', 1, %s)",
        "ü",
    )
    with SqlService(database_of(place)) as service:
        (found,) = service.call("GetArtifactsByID", rpc.GetArtifactsByIDRequest(artifact_ids=[1])).artifacts
        assert found.custom_properties["p"].string_value == "ü"
        assert found.uri == OURS[1]
    mariadb.drop_database(name)


@pytest.mark.parametrize("new_place", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
def test_nothing_is_asked_otherwise_as_long_as_all_is_mlmds(new_place: Callable[[], Place]) -> None:
    with SqlService(database_of(new_place())) as service:
        assert _uris(service) == []
        assert not foreign_text._met


def test_mysqls_latin1_has_a_letter_for_each_byte() -> None:
    assert sorted(foreign_text._BYTES.values()) == list(range(256))
    assert {foreign_text._BYTES[ord(each)] for each in "€Ÿ\x81ÿ"} == {0x80, 0x9F, 0x81, 0xFF}
