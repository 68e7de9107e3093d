"""What a value counts for in the fingerprint of code that uses it: in files, closures, notebook cells."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import linecache
import logging
import operator
import os
import random
import subprocess
import sys
import textwrap
import threading
import types
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import loops
from zen_mlmd.fingerprint import code_fingerprint, fingerprint_of

ROOT = Path(__file__).parents[2]


class Plain:
    def __init__(self, d: Any) -> None:
        self.d = d

    def method(self) -> Any:
        return self.d


class Slotted:
    __slots__ = ("d",)

    def __init__(self, d: Any) -> None:
        self.d = d


class Text(str):
    __slots__ = ()


class Model(pydantic.BaseModel):
    d: Any


@dataclasses.dataclass
class Record:
    d: Any


@dataclasses.dataclass
class Rows(list):  # type: ignore[type-arg]
    d: Any


class Bits(enum.IntFlag):
    A = 1
    B = 2


def closure(value: object) -> Callable[[], object]:
    def use() -> object:
        return value

    return use


KINDS: dict[str, Callable[[int], Any]] = {
    "number": lambda d: d,
    "list": lambda d: [[d]],
    "plain_object": Plain,
    "object_in_an_object": lambda d: Plain([Plain(d)]),
    "slots": Slotted,
    "dataclass": Record,
    "dataclass_that_is_a_list": Rows,
    "pydantic_model": lambda d: Model(d=d),
    "namespace": lambda d: types.SimpleNamespace(d=d),
    "bound_method": lambda d: Plain(d).method,
    "method_of_built_in_data": lambda d: [d].count,
    "numpy_array": lambda d: np.array([d]),
    "numpy_columns": lambda d: np.asfortranarray([[1, 2], [3, d]]),
    "numpy_every_other": lambda d: np.arange(10 * d)[::2],
    "numpy_record": lambda d: np.array([(1, d)], dtype=[("a", "i4"), ("b", "f8")]),
    "numpy_scalar": np.float64,
    "numpy_objects": lambda d: np.array([d, None], dtype=object),
    "pandas_frame": lambda d: pd.DataFrame({"a": [d], "b": ["x"]}),
    "pandas_index": lambda d: pd.Index([d, 5]),
    "polars_series": lambda d: pl.Series("a", [d]),
    "counter": lambda d: collections.Counter(a=d),
    "default_dict": lambda d: collections.defaultdict(int, {1: d}),
    "ordered_dict": lambda d: collections.OrderedDict([(1, d), (2, 1)]),
    "deque": lambda d: collections.deque([d], 3),
    "length_of_a_deque": lambda d: collections.deque(maxlen=d),
    "array": lambda d: array("i", [d]),
    "text_of_a_class": Text,
    "slice": slice,
    "flag": Bits,
    "item_getter": operator.itemgetter,
    "zone": lambda d: ZoneInfo(["Europe/Berlin", "Europe/London"][d - 1]),
    "type": lambda d: [list[int], list[str]][d - 1],
    "union": lambda d: [int | None, str | None][d - 1],
    "annotated": lambda d: Annotated[int, d],
    "literal": lambda d: Literal[d],
    "iterator": lambda d: iter([d]),
    "long_bytes": lambda d: b"x" * 1000 + bytes([d]),
    "set_of_objects": lambda d: {closure(d), closure(3)},
    "dict_in_a_proxy": lambda d: types.MappingProxyType({"a": d}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_closure_holds_counts_with_all_of_its_state(kind: str) -> None:
    make = KINDS[kind]
    one, same, other = (fingerprint_of(closure(make(d))) for d in (1, 1, 2))
    assert one.unseen == ()
    assert one.code == same.code != other.code


def test_what_is_no_data_makes_a_closure_unseen() -> None:
    gate, plain = threading.Lock(), 1

    def use() -> object:
        return gate, plain

    assert fingerprint_of(use).unseen == ("gate",)
    for value in (
        [gate],
        Plain(gate),
        {"a": (gate,)},
        (x for x in [1]),
        memoryview(b"x"),
        Plain(gate).method,
    ):
        assert fingerprint_of(closure(value)).unseen == ("value",)


def test_an_object_that_makes_new_ones_for_ever_ends() -> None:
    class Endless:
        def __reduce__(self) -> Any:
            return Endless, (), {"next": Endless()}

    assert fingerprint_of(closure(Endless())).unseen == ("value",)


def test_a_class_says_itself_what_of_its_state_counts() -> None:
    class Log(Plain):
        def __reduce__(self) -> Any:
            return Log, ([],)

    log = Log([])
    before = fingerprint_of(closure(log))
    log.d.append(1)
    assert fingerprint_of(closure(log)) == before


@pytest.mark.parametrize(
    "value",
    [
        random.choice,
        random.random,
        np.random.rand,
        os.environ,
        logging.getLogger("x"),
        TypeVar("T"),
        object(),
    ],
)
def test_what_a_library_has_as_a_global_counts_by_its_name(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint_of(closure(value))
    assert before.unseen == ()
    random.random()
    np.random.rand()  # noqa: NPY002 - it is what is tested
    monkeypatch.setenv("X", "changed")
    logging.getLogger("x").setLevel(logging.DEBUG)
    assert fingerprint_of(closure(value)) == before


def dense(size: int, links: Callable[[Iterator[Any]], Any]) -> list[Plain]:
    nodes = [Plain(None) for _ in range(size)]
    for node in nodes:
        node.d = links(each for each in nodes if each is not node)
    return nodes


def test_objects_that_all_know_each_other_take_no_time() -> None:
    began = loops()
    nodes = dense(200, list)
    before = fingerprint_of(closure(nodes))
    assert loops() - began < 1000
    assert before.unseen == ()
    nodes[7].d.append(1)
    assert fingerprint_of(closure(nodes)).code != before.code


def test_a_list_that_comes_again_and_again_takes_no_time() -> None:
    value: list[Any] = [1]
    for _ in range(100):
        value = [value, value]
    began = loops()
    code_fingerprint(closure(value))
    assert loops() - began < 100


def test_objects_that_know_each_other_through_sets_are_unseen() -> None:
    # Where such a text would begin depends on the order in the set, and so on the process.
    assert fingerprint_of(closure(dense(50, set))).unseen == ("value",)


def test_data_nested_a_thousand_deep_counts_to_its_bottom() -> None:
    def nested(bottom: int) -> object:
        value: object = bottom
        for _ in range(1000):
            value = [Plain(value)]
        return value

    one, other = (fingerprint_of(closure(nested(d))) for d in (1, 2))
    assert one.unseen == other.unseen == ()
    assert one.code != other.code


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=3))
def test_one_object_twice_is_another_value_than_two_equal_ones(names: list[str]) -> None:
    objects = {name: [0] for name in "abc"}
    pattern = [names.index(name) for name in names]
    same = code_fingerprint(closure([objects[name] for name in names])) == code_fingerprint(
        closure([[0], [0], [0]])
    )
    assert same == (pattern == [0, 1, 2])


def test_sets_of_objects_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        textwrap.dedent("""
            import dataclasses, sys
            sys.path.insert(0, sys.argv[1])
            from zen_mlmd.fingerprint import fingerprint_of
            @dataclasses.dataclass(frozen=True)
            class A:
                k: str
                many: frozenset = frozenset()
            shared = ["s"]
            class B:
                def __init__(self, k): self.k, self.shared = k, shared
            S = {A("x"), A("y", frozenset({A("p"), A("q")})), "z", B(1), B(2), B(3)}
            def f(): return S
            found = fingerprint_of(f)
            print(found.code, found.unseen)
        """)
    )
    answers = {
        subprocess.run(
            [sys.executable, "main.py", str(ROOT)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "0123"
    }
    assert len(answers) == 1
    assert answers.pop().endswith(" ()\n")


# -- notebooks: the text of a cell is in linecache only, and the statements of its globals nowhere


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(*cells: str) -> Any:
        main = types.ModuleType("__main__")
        del main.__dict__["__loader__"]
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "__main__", main)
            for number, text in enumerate(cells):
                name = f"<ipython-input-{number}-{abs(hash(text))}>"
                linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
                exec(compile(text, name, "exec"), main.__dict__)
            return fingerprint_of(main.__dict__["f"])

    return run


CELLS: dict[str, tuple[str, ...]] = {
    "constant": ("K = 1", "def f(): return K"),
    "helper": ("def h(): return 1", "def f(): return h()"),
    "plain_object": ("class C:\n  def __init__(s, d): s.d = d\nc = C(1)", "def f(): return c.d"),
    "attribute_set_in_a_later_cell": ("class C: pass\nc = C()", "c.d = 1", "def f(): return c.d"),
    "class_attribute": ("class C:\n  k = 0", "C.k = 1", "def f(): return C.k"),
    "class_attribute_beside_a_method": (
        "class C:\n  k = 0\n  def m(s): return s.k",
        "C.k = 1",
        "def f(): return C().m()",
    ),
    "pydantic_model": (
        "import pydantic\nclass C(pydantic.BaseModel):\n  d: int\nc = C(d=1)",
        "def f(): return c.d",
    ),
    "type_of_a_pydantic_field": (
        "import pydantic, typing\nclass C(pydantic.BaseModel):\n  d: typing.Literal[1] = None",
        "def f(): return C()",
    ),
    "pydantic_default": (
        "import pydantic\nclass C(pydantic.BaseModel):\n  d: int = 1",
        "def f(): return C().d",
    ),
    "numpy_array": ("import numpy as np\nw = np.array([1])", "def f(): return w.sum()"),
    "pandas_frame": ("import pandas as pd\nw = pd.DataFrame({'a': [1]})", "def f(): return w"),
    "helper_under_a_class_based_decorator": (
        "class D:\n  def __init__(s, f): s.f = f\n  def __call__(s): return s.f()",
        "@D\ndef h(): return 1",
        "def f(): return h()",
    ),
    "factory_of_a_dict": (
        "from collections import defaultdict\nK = defaultdict(lambda: 1)",
        "def f(): return K['x']",
    ),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_change_in_a_notebook_is_seen_in_a(notebook: Callable[..., Any], case: str) -> None:
    before = notebook(*CELLS[case])
    changed = notebook(*(cell.replace("1", "2") for cell in CELLS[case]))
    assert before == notebook(*CELLS[case])
    assert before.unseen == changed.unseen == ()
    assert before.code != changed.code


def test_a_notebooks_global_that_is_no_data_is_unseen(notebook: Callable[..., Any]) -> None:
    found = notebook("import threading\ngate = threading.Lock()", "def f(): return gate")
    assert found.unseen == ("gate",)


def test_a_global_in_a_file_that_is_no_data_counts_by_its_statement(tmp_path: Path) -> None:
    text = "import threading\ngate = threading.Semaphore({n})\ndef f(): return gate\n"
    found = []
    for n in (1, 2):
        (tmp_path / "main.py").write_text(
            text.format(n=n)
            + f"import sys, json\nsys.path.insert(0, {str(ROOT)!r})\n"
            + "from zen_mlmd.fingerprint import fingerprint_of\n"
            + "found = fingerprint_of(f)\nprint(json.dumps([found.code, found.unseen]))\n"
        )
        done = subprocess.run(
            [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    assert [unseen for _, unseen in found] == [[], []]
    assert found[0] != found[1]


def test_types_in_annotations_are_data() -> None:
    for value in (Optional[int], dict[str, Plain], Callable[[int], str], Any):  # noqa: UP045 - as old code has it
        assert fingerprint_of(closure(value)).unseen == ()
