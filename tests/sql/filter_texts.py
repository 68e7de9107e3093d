"""Filters for tests: some that say each thing once, and hypothesis's."""

from __future__ import annotations

from hypothesis import strategies as st

FILTERS: dict[str, tuple[str, ...]] = {
    "Artifact": (
        *("id != 1", "id IN (1, 3)", "id NOT IN (1, 3)", "ID = 1", "`id` = 1", "id <> 0x2", "2 <= id"),
        *("id BETWEEN 2 AND 4", "id NOT BETWEEN 2 AND 4 OR id = 3", "id BETWEEN 1 AND 2 AND 3 = 3"),
        *("id + 1 > 4", "id * 2 - 1 = 5", "-id = -3", "id = - -3", "id = 1 + + 1", "id IN (id, type_id)"),
        *("id IN ((1),(2))", "id = 9223372036854775807", "id > -9223372036854775808", "id = 01"),
        *("type = 'Table'", "type LIKE 'Mod%' AND type != 'x'", "type IS NULL", "type IS NOT NULL"),
        *("type_id = 10 AND type = 'Model'", "type = 'Model' OR name = 'Ünder_score'", "type = type"),
        *("uri LIKE '%a_b'", "uri = ''", "uri IS NULL", "uri LIKE 'S3://%'", "uri NOT LIKE '%a%'"),
        *("name IS NULL", "name != 'model 2'", "NOT name = 'model 2'", "name NOT LIKE 'model%'"),
        *("name LIKE 'model _'", 'name = "model 2"', "name = r'model 2'", "name = '''model 2'''"),
        *("name = '\\u00dcnder_score'", "name IN ('a', 'model 2')", "name BETWEEN 'a' AND 'z'"),
        *("name LIKE name", "name > 'm'", "name = 'n\\x6fne'", "name = '\\101\\n\\t'", "name LIKE ''"),
        *("external_id = 'artifact-5'", "external_id IS NULL", "last_update_time_since_epoch >= 1000"),
        *("last_update_time_since_epoch >= create_time_since_epoch", "create_time_since_epoch < 1000"),
        *("state = LIVE", "state != LIVE", "state IN (LIVE, PENDING)", "state NOT IN (LIVE)"),
        *("NOT (state = LIVE)", "NOT state != LIVE", "NOT state IN (LIVE)", "state IS NULL", "state > 1"),
        *("NOT state NOT IN (LIVE)", "state + 0 = 2", "state BETWEEN 1 AND 2", "state = UNKNOWN"),
        *("state=LIVE and id>2", "state not in (LIVE,DELETED)", "state = LIVE OR state = PENDING AND id = 1"),
        *("properties.i.int_value > 4", "custom_properties.i.int_value <= -4", "properties.i.int_value = 99"),
        *(
            "properties.d.double_value > 0.9",
            "properties.d.double_value = 2",
            "properties.nope.int_value = 1",
        ),
        *("properties.d.double_value IN (0.5, 1.25)", "properties.d.double_value = .5e0"),
        *("properties.s.string_value = 'text 5'", "properties.b.bool_value", "NOT properties.b.bool_value"),
        *("properties.b.bool_value = true", "properties.b.bool_value != TRUE"),
        *("properties.b.bool_value IS TRUE", "properties.b.bool_value IS NOT FALSE"),
        *("properties.t.string_value IS NOT NULL", "properties.p.string_value IS NULL"),
        *("properties.`i`.int_value = 5", "custom_properties.`a b`.string_value LIKE '100%'"),
        "custom_properties.`a.b:c-d`.double_value > 0",
        *(
            "properties.i.int_value = 5 OR id = 1",
            "properties.i.int_value + custom_properties.i.int_value = 0",
        ),
        *("contexts_a.name = 'pipeline'", "contexts_a.id = 1 AND contexts_a.id = 2", "NOT contexts_a.id = 1"),
        *(
            "contexts_a.id = 1 AND contexts_b.id = 2",
            "contexts_a.id < contexts_b.id",
            "contexts_a.id IS NULL",
        ),
        *("contexts_a.type = 'run' AND contexts_a.name LIKE '%1'", "contexts_A.`name` = 'run 1'"),
        *("contexts_a.create_time_since_epoch < create_time_since_epoch", "contexts_a.name = name"),
        *(
            "uri = 'a' OR contexts_a.id = 1",
            "contexts_a.type = type OR contexts_a.last_update_time_since_epoch > 0",
        ),
        *("events_0.type = INPUT", "events_0.type IN (INPUT, OUTPUT)", "events_0.type != OUTPUT"),
        *("events_0.type NOT IN (OUTPUT)", "events_0.execution_id = 3", "events_0.type > 3"),
        *("events_0.type = INPUT AND events_1.type = OUTPUT", "events_x.milliseconds_since_epoch > 2000"),
        *("events_0.type IN (DECLARED_INPUT , INPUT) AND events_0.execution_id < 5",),
        *("true", "false", "1 = 1", "'a' = 'a'", "TRUE AND id = 1", "(id = 1) = true", "true = (id = 1)"),
        *("NOT NOT id = 1", "NOT(id=1)", "not id = 1 and id = 2 or id = 3", "(id = 1) IS NOT TRUE"),
        *("(name = 'x') IS NULL", "(name = 'x') IS FALSE", "((id = 1) = (id = 2)) OR id = 7"),
        *("id = 1 -- it is", "/* it */ id /**/ = 1 # is", "\tid\n=\r\n1\n", "id\u00a0= 1"),
        *("LOWER(type) = 'model'", "UPPER(name) LIKE 'MODEL%'", "LENGTH(name) > 7", "ABS(-id) = 2"),
        *("COALESCE(name, 'x') = 'x'", "COALESCE(external_id, name, 'x') LIKE 'model%'"),
    ),
    "Execution": (
        *("last_known_state = RUNNING", "last_known_state != RUNNING", "last_known_state IS NOT NULL"),
        *("last_known_state NOT IN (RUNNING, NEW)", "last_known_state IN (COMPLETE , CACHED)"),
        *("events_0.artifact_id = 3", "events_a.type = OUTPUT AND events_a.artifact_id > 2"),
        *("contexts_a.name = 'run 1' AND name LIKE 'step%'", "type = 'Importer' AND contexts_a.type = 'run'"),
        *("properties.i.int_value = 3 AND properties.s.string_value = 'text 3'", "external_id IS NOT NULL"),
    ),
    "Context": (
        *("parent_contexts_a.name = 'pipeline'", "child_contexts_a.name = 'run 0'", "name LIKE '100%'"),
        *("parent_contexts_a.id = 1 AND parent_contexts_b.id = 4", "parent_contexts_a.type = 'pipeline'"),
        *("parent_contexts_a.id = 1 OR parent_contexts_a.id = 4", "child_contexts_x.id IN (2, 3)"),
        *("artifacts_a.id = 3", "artifacts_a.uri LIKE 's3%'", "artifacts_a.type = 'Model'"),
        *("artifacts_a.state = LIVE", "artifacts_a.state IN (LIVE, PENDING)", "artifacts_a.state IS NULL"),
        *("executions_a.last_known_state = RUNNING", "executions_a.name = 'step 1'"),
        *("executions_a.name = 'step 1' AND artifacts_a.name = 'model 2'", "name = 'run 1 '"),
        *("properties.i.int_value = 3 AND type = 'pipeline'", "external_id = 'context-3'"),
        *("artifacts_a.id = 3 AND artifacts_b.id = 4 AND executions_a.id = 3", "name = 'RUN 1'"),
    ),
}
"""Those of which ml-metadata, on each backend, finds what they say."""

REFUSED: dict[str, tuple[str, ...]] = {
    "Artifact": (
        *("a", "a = 'a'", "id", "'a'", "1", "NULL", "NOT 1", "-id", "id = 1 AND 1", "NOT id", "name"),
        *("id = 'a'", "type = 1", "uri = 1", "name = a", "id LIKE '1'", "name LIKE 1", "name + 1 = 2"),
        *("-name = 'x'", "id IN (1, 'a')", "id BETWEEN 1 AND 'a'", "(id = 1) = 1", "LOWER(id) = 'a'"),
        *(
            "contexts",
            "contexts_0",
            "contexts_0.foo",
            "contexts_0.id.",
            "contexts_0.id.bar",
            "contexts_.id = 1",
        ),
        *("Contexts_a.id = 1", "contexts_a . id = 1", "`contexts_a`.id = 1", "contexts_ä.id = 1"),
        *("contexts_a.external_id = 'x'", "contexts_a.type_id = 1", "contexts_a.properties.i.int_value = 1"),
        *(
            "properties",
            "properties.foo",
            "properties.bar.",
            "properties.baz.int",
            "properties.0:b.int_value = 1",
        ),
        *("properties.i IS NULL", "properties.i.struct_value IS NULL", "PROPERTIES.i.int_value = 5"),
        *(
            "properties.``.int_value = 1",
            "custom_properties.a-b.int_value = 1",
            "properties.i.int_value.x = 1",
        ),
        *(
            "artifacts_0.id = 1",
            "executions_0.id = 1",
            "parent_contexts_0.id = 1",
            "last_known_state IS NULL",
        ),
        *(
            "state",
            "state = 'LIVE'",
            "state = 1",
            "state = RUNNING",
            "state = live",
            "state IN LIVE",
            "LIVE = state",
        ),
        *(
            "state IN ()",
            "state IN (LIVE, 1)",
            "state IN (LIVE PENDING)",
            "state NOT IN (RUNNING)",
            "state = NULL",
        ),
        *("state >= LIVE", "state = LIVE = true", "events_0.type = SOME", "events_0.type IN (SOME)"),
        *(
            "events",
            "events.type = INPUT",
            "events_0.artifact_id = 1",
            "events_0.id = 1",
            "events_0.path = 1",
        ),
        *("  ", "id =", "= 1", "id = = 1", "id == 1", "id = 1 AND", "AND", "id ! = 1", "id <=> 1", "id := 1"),
        *("id = 1 && id = 2", "id = 1 || id = 2", "!true", "id = 1 = true", "id = 1 IS TRUE", "id = NULL"),
        *(
            "id IN ()",
            "id IN (1,)",
            "id IN (,1)",
            "id IN 1",
            "id IS 1",
            "id IS NOT 1",
            "name IS 'x'",
            "name ISNULL",
        ),
        *(
            "id = 1 )",
            "( id = 1",
            "()",
            "(id, id)",
            "id = 1;",
            "id % 2 = 1",
            "id = $1",
            "id = @p",
            "id = :p",
            "id = ?",
        ),
        *("id[0] = 1", "id.x = 1", "t.id = 1", "type.name = 'x'", "[1] = [1]", "{'a'} = 1", "id = 1 id = 2"),
        *("name = 'model' ' 2'", "name = 'a''b'", "name = 'x", 'name = "x', "name = '''x'", "name = `x"),
        *("name = 'a\nb'", "name = 'a\\_b'", "name = '\\0'", "name = '\\ud800'", "name = '\\U00110000'"),
        *(
            "name = b'x'",
            "id = 1 /* x",
            "id=--1",
            "id = 1_000",
            "id = 0b1",
            "id = 1a",
            "id = 18446744073709551616",
        ),
        *(
            "x(1)",
            "x()",
            "COUNT(*) = 1",
            "SUM(id) = 1",
            "id COLLATE x = 1",
            "EXTRACT(x)",
            "name(1)",
            "LOWER() = ''",
        ),
        *("id IS DISTINCT FROM 1", "name LIKE ANY ('a')", "DATE '2020-01-01' = id", "INTERVAL 1 DAY = 1"),
        *(
            "description = 'x'",
            "type_version = '2'",
            "NOT",
            "id NOT 1",
            "id BETWEEN 1",
            "id BETWEEN 1 AND",
            "* = 1",
        ),
        *(
            "SELECT 1",
            "id = (SELECT id FROM Artifact",
            "id = 1 UNION SELECT 1",
            "id = 1 GROUP BY id",
            "id AS x",
        ),
    ),
    "Execution": (
        *("uri = 'x'", "state = RUNNING", "events_0.execution_id = 1", "last_known_state = 1"),
        *("last_known_state = LIVE", "last_known_state IN ()", "last_known_state = 'RUNNING'"),
    ),
    "Context": (
        *(
            "contexts_a.id = 1",
            "events_0.type = INPUT",
            "state = LIVE",
            "last_known_state = RUNNING",
            "uri = 'x'",
        ),
        *("parent_contexts", "parent_contexts_0", "parent_contexts_0.foo = 1", "child_contexts_0.id.bar = 1"),
        *(
            "parent_contexts_a.external_id = 'x'",
            "artifacts_a.last_known_state IS NULL",
            "executions_a.uri = ''",
        ),
        *("executions_a.type_id = 1", "artifacts_a.properties.i.int_value = 1"),
    ),
}
"""What is no filter, to both."""

_INTS = {
    "Artifact": (
        "id",
        "type_id",
        "events_0.execution_id",
        "events_1.milliseconds_since_epoch",
        "contexts_a.id",
    ),
    "Execution": ("id", "type_id", "events_0.artifact_id", "contexts_a.id", "contexts_b.id"),
    "Context": (
        "id",
        "type_id",
        "parent_contexts_a.id",
        "child_contexts_a.id",
        "artifacts_a.id",
        "executions_b.id",
    ),
}
_TEXTS = {
    "Artifact": ("name", "uri", "external_id", "type", "contexts_a.name", "contexts_b.type"),
    "Execution": ("name", "external_id", "type", "contexts_a.name", "contexts_b.type"),
    "Context": (
        "name",
        "type",
        "external_id",
        "parent_contexts_a.name",
        "artifacts_a.uri",
        "executions_b.type",
    ),
}
_STATES = {
    "Artifact": (("state", ("LIVE", "PENDING", "UNKNOWN")), ("events_0.type", ("INPUT", "OUTPUT"))),
    "Execution": (("last_known_state", ("RUNNING", "NEW", "CACHED")), ("events_0.type", ("OUTPUT",))),
    "Context": (("artifacts_a.state", ("LIVE", "PENDING")), ("executions_b.last_known_state", ("RUNNING",))),
}
_PLAIN = (
    "'model 2'",
    "'run 0'",
    "'pipeline'",
    "'Model'",
    '"s3://bucket/a_b"',
    "'text 5'",
    "'Ünder_score'",
    "''",
)
_PATTERNS = ("'model%'", "'%_b'", "'M_del'", "'%'", "'run _'", "'%/%'", "'TEXT%'")


def _ints(kind: str) -> st.SearchStrategy[str]:
    known = (*_INTS[kind], "properties.i.int_value", "custom_properties.i.int_value", "`id`")
    leaf = st.one_of(st.sampled_from(known), st.integers(-3, 14).map(str))

    def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda each: f"({each[0]} {each[1]} {each[2]})"
        )
        return two | inner.map("(- {})".format) | inner.map("ABS({})".format)

    return st.recursive(leaf, deeper, max_leaves=3)


def _texts(kind: str) -> st.SearchStrategy[str]:
    known = (*_TEXTS[kind], "properties.s.string_value", "custom_properties.`a b`.string_value")
    leaf = st.sampled_from((*known, *known, *_PLAIN))
    return leaf | leaf.map("LOWER({})".format) | leaf.map("COALESCE({}, 'x')".format)


def _conditions(kind: str) -> st.SearchStrategy[str]:
    ints, texts = _ints(kind), _texts(kind)
    compare = st.sampled_from(("=", "!=", "<", "<=", ">", ">=", "<>"))
    no = st.sampled_from(("", "NOT "))

    def state(drawn: tuple[tuple[str, tuple[str, ...]], str, int]) -> str:
        (name, states), how, number = drawn
        one = states[number % len(states)]
        if how.endswith("IN"):
            return f"{name} {how} ({', '.join(states[: number % len(states) + 1])})"
        return f"{name} {how} {one}" if how in ("=", "!=") else f"{name} {how}"

    how = st.sampled_from(("=", "!=", "IN", "NOT IN", "IS NULL", "> 1"))
    return st.one_of(
        st.tuples(ints, compare, ints).map(" ".join),
        st.tuples(texts, compare, texts).map(" ".join),
        st.tuples(texts, no, st.sampled_from(_PATTERNS)).map(
            lambda each: f"{each[0]} {each[1]}LIKE {each[2]}"
        ),
        st.tuples(ints, no, st.lists(ints, min_size=1, max_size=4)).map(
            lambda each: f"{each[0]} {each[1]}IN ({', '.join(each[2])})"
        ),
        st.tuples(texts, no, st.lists(texts, min_size=1, max_size=4)).map(
            lambda each: f"{each[0]} {each[1]}IN ({', '.join(each[2])})"
        ),
        st.tuples(ints, no, ints, ints).map(
            lambda each: f"{each[0]} {each[1]}BETWEEN {each[2]} AND {each[3]}"
        ),
        st.tuples(texts | ints, no).map(lambda each: f"{each[0]} IS {each[1]}NULL"),
        st.tuples(st.sampled_from(_STATES[kind]), how, st.integers(0, 2)).map(state),
        st.sampled_from(
            (
                "properties.b.bool_value",
                "properties.d.double_value > 0.5",
                "properties.b.bool_value = false",
                "true",
            )
        ),
    )


def filters(kind: str) -> st.SearchStrategy[str]:
    """Return a strategy of filters of nodes of a kind, most of which ml-metadata takes."""

    def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, st.sampled_from(("AND", "OR", "and")), inner)
        return st.one_of(
            two.map(" ".join),
            two.map(lambda each: f"({' '.join(each)})"),
            inner.map("NOT ({})".format),
            inner.map("({})".format),
            inner.map("NOT {}".format),
            st.tuples(inner, st.sampled_from(("IS TRUE", "IS NOT TRUE", "IS NULL", "= true"))).map(
                lambda each: f"({each[0]}) {each[1]}"
            ),
        )

    return st.recursive(_conditions(kind), deeper, max_leaves=6)
