from __future__ import annotations

import ast
import asyncio
import dataclasses
import functools
import importlib
import json
import linecache
import operator
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zen_mlmd.fingerprint import code_fingerprint, explain_fingerprint

ROOT = Path(__file__).parents[2]

LOAD = """
import sys
from zen_mlmd import fingerprint
"""

EXPLAIN = """
import importlib, json
module, _, name = sys.argv[1].partition(":")
function = getattr(importlib.import_module(module), name)
print(json.dumps([fingerprint.code_fingerprint(function), fingerprint.explain_fingerprint(function)]))
"""


class Project:
    """A directory of Python files, whose steps are fingerprinted, changed and fingerprinted again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.directory / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def python(self, code: str, *arguments: str, seed: str = "random") -> str:
        """Run code in a new process, with the module as `fingerprint`."""
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.directory), str(ROOT)]),
            "PYTHONHASHSEED": seed,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-W", "error", "-c", LOAD + code, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=variables, cwd=self.directory, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def explain(self, function: str = "steps:train", *imports: str) -> dict[str, str]:
        """Import the project anew and explain one function of it."""
        with pytest.MonkeyPatch.context() as patch:
            # A .pyc is trusted by the second and the size: too coarse for these tests.
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.syspath_prepend(str(self.directory))
            before = set(sys.modules)
            importlib.invalidate_caches()
            try:
                for name in imports:
                    importlib.import_module(name)
                module, _, name = function.partition(":")
                found = getattr(importlib.import_module(module), name)
                explained = explain_fingerprint(found)
                assert explain_fingerprint(found) == explained
                return explained
            finally:
                for name in set(sys.modules) - before:
                    if str(self.directory) in str(getattr(sys.modules[name], "__spec__", "")):
                        del sys.modules[name]

    def changed_by(self, file: str, old: str, new: str) -> bool:
        """Whether the edit changes the fingerprint of `steps.train`."""
        before = self.explain()
        path = self.directory / f"{file}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return self.explain() != before


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


STEP = '''
import json
from tools import scale as scaled, unused
import tools

LIMIT = 3
UNUSED = 1

def local(x):
    """Doc."""
    return x + 1

def train(rows: list, depth: int = 3) -> dict:
    """Train it."""
    total = [local(scaled(r)) for r in rows if r < LIMIT]
    return json.dumps(tools.combine(total, depth))

def other():
    return 1
'''

TOOLS = '''
"""Tools."""
FACTOR = 2

def scale(x):
    # scales
    return deep(x) * FACTOR

def deep(x):
    return x - 1

def combine(items, depth):
    return Combiner(depth).run(items)

def unused():
    return 0

class Base:
    offset = 10

    def shared(self):
        """Share."""
        return self.offset

class Combiner(Base):
    """Combines."""
    weight = 1.5

    def __init__(self, depth):
        self.depth = depth

    def run(self, items):
        return sum(items) * self.weight + self.shared()
'''


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tools", "# scales", "# scales by the factor"),
        ("tools", '"""Tools."""', '"""Other tools.\n\nMany.\n"""\n\n'),
        ("tools", '"""Share."""', '"""Shares."""'),
        ("tools", '        """Share."""\n', ""),
        ("tools", '    """Combines."""\n', ""),
        ("steps", '    """Train it."""\n', ""),
        ("steps", '    """Train it."""\n', '    """Train it."""\n    "another string"\n    pass\n'),
        ("steps", "def local(x):", "\n\n\ndef local(\n    x\n):"),
        ("steps", "return x + 1", "return (x  +  1)  # plus"),
        ("steps", "return x + 1", "return x + 0x1"),
        ("steps", "if r < LIMIT]", "if\n        r < LIMIT\n    ]"),
        ("steps", "UNUSED = 1", "UNUSED = 2"),
        ("steps", "    return 1", "    return 2"),
        ("tools", "return 0", "return 1"),
        ("steps", "LIMIT = 3", "LIMIT = 1 + 2"),
    ],
)
def test_stays_the_same(project: Project, file: str, old: str, new: str) -> None:
    project.write(steps=STEP, tools=TOOLS)
    assert not project.changed_by(file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("steps", "if r < LIMIT", "if r <= LIMIT"),
        ("steps", "depth: int = 3", "depth: int = 4"),
        ("steps", "return x + 1", "return x + 2"),
        ("steps", "return x + 1", "return x + 1.0"),
        ("steps", "LIMIT = 3", "LIMIT = 4"),
        ("steps", "LIMIT = 3", "LIMIT = 3.0"),
        ("steps", "import scale as scaled", "import deep as scaled"),
        ("steps", "import json", "import pickle as json"),
        ("tools", "deep(x) * FACTOR", "deep(x) + FACTOR"),
        ("tools", "FACTOR = 2", "FACTOR = 3"),
        ("tools", "return x - 1", "return x - 2"),
        ("tools", "weight = 1.5", "weight = 2.5"),
        ("tools", "self.depth = depth", "self.depth = depth + 1"),
        ("tools", "sum(items)", "max(items)"),
        ("tools", "offset = 10", "offset = 11"),
        ("tools", "return self.offset", "return -self.offset"),
    ],
)
def test_changes_with_what_the_step_uses(project: Project, file: str, old: str, new: str) -> None:
    project.write(steps=STEP, tools=TOOLS)
    assert project.changed_by(file, old, new)


def test_explain_names_each_piece_and_nothing_else(project: Project) -> None:
    project.write(steps=STEP, tools=TOOLS)
    pieces = project.explain()
    assert list(pieces) == [
        "steps:LIMIT",
        "steps:local",
        "steps:train",
        "tools:Base",
        "tools:Base.shared",
        "tools:Combiner",
        "tools:Combiner.__init__",
        "tools:Combiner.run",
        "tools:FACTOR",
        "tools:combine",
        "tools:deep",
        "tools:scale",
    ]
    assert all(value.startswith("sha256:") and len(value) == 71 for value in pieces.values())


def test_explain_says_which_helper_changed(project: Project) -> None:
    project.write(steps=STEP, tools=TOOLS)
    before = project.explain()
    project.write(tools=TOOLS.replace("return x - 1", "return x - 2"))
    after = project.explain()
    assert [key for key in before if before[key] != after[key]] == ["tools:deep"]


SNIPPETS: dict[str, tuple[str, str, str]] = {
    "module_constant_in_a_container": (
        "PARAMETERS = {'a': [1, (2, {3})]}\ndef train(): return PARAMETERS",
        "{3}",
        "{4}",
    ),
    "closure_cell": (
        "def make(n):\n    def inner(): return n\n    return inner\ntrain = make(1)",
        "make(1)",
        "make(2)",
    ),
    "function_in_a_closure_cell": (
        "def h(): return 1\ndef make(f):\n    def inner(): return f()\n    return inner\ntrain = make(h)",
        "return 1",
        "return 2",
    ),
    "module_in_a_closure_cell": (
        (
            "def make():\n    import helper as m\n    def inner(): return m.f()\n"
            "    return inner\ntrain = make()"
        ),
        "inner(): return",
        "inner(): yield",
    ),
    "computed_default": ("def train(x=sum([1, 2])): return x", "[1, 2]", "[1, 3]"),
    "keyword_default": ("def train(*, x=1): return x", "x=1", "x=2"),
    "function_as_default": ("def h(): return 1\ndef train(f=h): return f()", "return 1", "return 2"),
    "lambda_as_default": ("def train(f=lambda: 1): return f()", "lambda: 1", "lambda: 2"),
    "default_from_a_loop": (
        "made = []\nfor i in (1, 2):\n    def f(i=i): return i\n    made.append(f)\ntrain = made[0]",
        "(1, 2)",
        "(3, 2)",
    ),
    "decorator": (
        "def deco(f):\n    def wrapper(): return f() + 1\n    return wrapper\n@deco\ndef train(): return 1",
        "f() + 1",
        "f() + 2",
    ),
    "wrapped_inside": (
        (
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f()\n"
            "    return wrapper\n@deco\ndef train(): return 1"
        ),
        "return 1",
        "return 2",
    ),
    "wrapper_of_wraps": (
        (
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f() + 1\n"
            "    return wrapper\n@deco\ndef train(): return 1"
        ),
        "f() + 1",
        "f() + 2",
    ),
    "argument_of_a_decorator": (
        "def deco(n):\n    return lambda f: f\n@deco(1)\ndef train(): return 1",
        "@deco(1)",
        "@deco(2)",
    ),
    "cached_helper": (
        "import functools\n@functools.lru_cache\ndef h(): return 1\ndef train(): return h()",
        "return 1",
        "return 2",
    ),
    "singledispatch_helper": (
        (
            "import functools\n@functools.singledispatch\ndef h(x): return 1\n"
            "@h.register\ndef _(x: int): return 2\ndef train(): return h(1)"
        ),
        "return 2",
        "return 3",
    ),
    "contextmanager_helper": (
        (
            "import contextlib\n@contextlib.contextmanager\ndef h(): yield 1\n"
            "def train():\n    with h() as x: return x"
        ),
        "yield 1",
        "yield 2",
    ),
    "partial_argument": (
        "import functools\ndef h(n): return n\ntrain = functools.partial(h, 1)",
        "(h, 1)",
        "(h, 2)",
    ),
    "partial_function": (
        "import functools\ndef h(n): return n\ntrain = functools.partial(h, 1)",
        "return n",
        "return -n",
    ),
    "partial_as_global": (
        "import functools\ndef h(n): return n\np = functools.partial(h, n=1)\ndef train(): return p()",
        "n=1",
        "n=2",
    ),
    "bound_method": (
        "class A:\n    def run(self): return self.x()\n    def x(self): return 1\ntrain = A().run",
        "return 1",
        "return 2",
    ),
    "class_method": (
        "class A:\n    n = 1\n    @classmethod\n    def run(cls): return cls.n\ntrain = A.run",
        "n = 1",
        "n = 2",
    ),
    "callable_instance": (
        "class A:\n    def __call__(self): return 1\ntrain = A()",
        "return 1",
        "return 2",
    ),
    "class_as_root": ("class train:\n    n = 1", "n = 1", "n = 2"),
    "static_method": (
        "class A:\n    @staticmethod\n    def h(): return 1\ndef train(): return A.h()",
        "return 1",
        "return 2",
    ),
    "property": (
        "class A:\n    @property\n    def h(self): return 1\ndef train(): return A().h",
        "return 1",
        "return 2",
    ),
    "base_class": (
        "class A:\n    def h(self): return 1\nclass B(A): pass\ndef train(): return B().h()",
        "return 1",
        "return 2",
    ),
    "super": (
        (
            "class A:\n    def h(self): return 1\nclass B(A):\n    def h(self): return super().h()\n"
            "train = B().h"
        ),
        "return 1",
        "return 2",
    ),
    "metaclass": (
        "class M(type):\n    def h(cls): return 1\nclass A(metaclass=M): pass\ndef train(): return A.h()",
        "return 1",
        "return 2",
    ),
    "function_used_by_a_method": (
        "def h(): return 1\nclass A:\n    def run(self): return h()\ndef train(): return A().run()",
        "return 1",
        "return 2",
    ),
    "function_used_by_a_class_body": (
        "def h(): return 1\nclass A:\n    n = h()\ndef train(): return A.n",
        "return 1",
        "return 2",
    ),
    "method_put_on_later": (
        "class A: pass\ndef h(self): return 1\nA.run = h\ndef train(): return A().run()",
        "return 1",
        "return 2",
    ),
    "local_class_with_a_closure": (
        (
            "def make(n):\n    class A:\n        def h(self): return n()\n    return A\n"
            "A = make(lambda: 1)\ndef train(): return A().h()"
        ),
        "lambda: 1",
        "lambda: 2",
    ),
    "dataclass_field": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    n: int = 1\ndef train(): return A()",
        "n: int = 1",
        "n: int = 2",
    ),
    "dataclass_instance": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n    n: int\n"
            "def make(): return A(1)\na = make()\ndef train(): return a"
        ),
        "A(1)",
        "A(2)",
    ),
    "named_tuple_made_by_a_call": (
        "import collections\nA = collections.namedtuple('A', 'x y')\ndef train(): return A(1, 2)",
        "'x y'",
        "'y x'",
    ),
    "enum_member": (
        "import enum\nclass E(enum.Enum):\n    a = 1\nMODE = E.a\ndef train(): return MODE",
        "a = 1",
        "a = 2",
    ),
    "path": (
        "import pathlib\nWHERE = pathlib.Path('a')\ndef train(): return WHERE",
        "'a'",
        "'b'",
    ),
    "regular_expression": (
        "import re\nPATTERN = re.compile('a')\ndef train(): return PATTERN",
        "'a'",
        "'b'",
    ),
    "statement_that_makes_an_opaque_value": (
        "import threading\nGATE = threading.Semaphore(1)\ndef train(): return GATE",
        "(1)",
        "(2)",
    ),
    "helper_of_the_statement_that_makes_an_opaque_value": (
        "import threading\ndef h(): return 1\nGATE = threading.Semaphore(h())\ndef train(): return GATE",
        "return 1",
        "return 2",
    ),
    "global_that_is_rebound": (
        "n = None\ndef h():\n    global n\n    n = n or 1\n    return n\ndef train(): return h()",
        "n = None",
        "n = 0",
    ),
    "functions_in_a_table": (
        "def h(): return 1\nTABLE = {'h': h}\ndef train(): return TABLE['h']()",
        "return 1",
        "return 2",
    ),
    "swapped_aliases": (
        "from helper import f as a, g as b\ndef train(): return a() - b()",
        "f as a, g as b",
        "g as a, f as b",
    ),
    "swapped_lambdas_on_one_line": (
        "f, g = (lambda: 1), (lambda: 2)\ndef train(): return f() - g()",
        "(lambda: 1), (lambda: 2)",
        "(lambda: 2), (lambda: 1)",
    ),
    "lambda": ("train = lambda: 1", "1", "2"),
    "nested_function": (
        "def h(): return 1\ndef train():\n    def inner(): return h()\n    return inner()",
        "return 1",
        "return 2",
    ),
    "helper_in_a_comprehension": (
        "def h(x): return 1\ndef train(): return {k: h(k) for k in 'ab'}",
        "return 1",
        "return 2",
    ),
    "comprehension_variable_that_hides_nothing_outside_it": (
        "x = 1\ndef train(): return [x for x in 'ab'] + [x]",
        "x = 1",
        "x = 2",
    ),
    "coroutine": (
        "async def h(): return 1\nasync def train(): return await h()",
        "return 1",
        "return 2",
    ),
    "generator": ("def h():\n    yield 1\ndef train(): return list(h())", "yield 1", "yield 2"),
    "long_sum": (
        "def h(): return 1\ndef train(): return " + "+".join(["h()"] * 700),
        "return 1",
        "return 2",
    ),
    "made_by_exec": (
        "names = {}\nexec('def f(): return 1', names)\ntrain = names['f']",
        "return 1",
        "return 2",
    ),
    "helper_of_one_made_by_exec": (
        "def h(): return 1\nnames = {'h': h}\nexec('def f(): return h()', names)\ntrain = names['f']",
        "return 1",
        "return 2",
    ),
    "class_made_by_exec": (
        (
            "names = {'__name__': 'x'}\nexec('class A:\\n  n = 1\\n  def h(self): pass', names)\n"
            "A = names['A']\ndef train(): return A()"
        ),
        "n = 1",
        "n = 2",
    ),
    "class_made_by_type": (
        "A = type('A', (), {'h': lambda self: 1})\ndef train(): return A().h()",
        "self: 1",
        "self: 2",
    ),
    "module_passed_as_a_value": (
        "import helper\ndef train(): return vars(helper)['f']()",
        "return vars(helper)",
        "return dict(vars(helper))",
    ),
    "descriptors_in_a_table": (
        (
            "import functools\ndef h(*_): return 1\n"
            "T = [classmethod(h), staticmethod(h), property(h), functools.cached_property(h)]\n"
            "def train(): return T"
        ),
        "return 1",
        "return 2",
    ),
    "cached_property": (
        (
            "import functools\nclass A:\n    @functools.cached_property\n    def h(self): return 1\n"
            "train = lambda: A().h"
        ),
        "return 1",
        "return 2",
    ),
    "text_of_an_f_string": ("def train(x): return f'a{x}b'", "b'", "c'"),
    "format_of_an_f_string": ("def train(x): return f'{x:>3}'", ">3", ">4"),
    "body_import": ("def train():\n    import helper\n    return helper.f()", "helper.f", "helper.g"),
    "docstring_that_is_read": (
        "def h():\n    'one'\ndef train(): return h.__doc__",
        "'one'",
        "'two'",
    ),
    "docstring_of_one_of_many": (
        "def h():\n    'one'\nTOOLS = [h]\ndef train(): return [tool.__doc__ for tool in TOOLS]",
        "'one'",
        "'two'",
    ),
    "docstring_of_the_module": ("'one'\ndef train(): return __doc__", "'one'", "'two'"),
    "docstring_read_by_inspect": (
        "from inspect import getdoc\nclass A:\n    'one'\ndef train(): return getdoc(A)",
        "'one'",
        "'two'",
    ),
    "docstring_read_by_a_body_import": (
        "def g(): 'one'\ndef train():\n    from reader import read\n    return read(g)",
        "'one'",
        "'two'",
    ),
    "bound_method_of_an_instance": (
        (
            "class A:\n    def __init__(s, d): s.d = d\n    def m(s): return s.d\n"
            "g = A(1).m\ndef train(): return g()"
        ),
        "A(1)",
        "A(2)",
    ),
    "method_of_built_in_data": ("get = {'a': 1}.get\ndef train(): return get('a')", "'a': 1", "'a': 2"),
    "class_based_decorator": (
        (
            "class D:\n    def __init__(s, f): s.f = f\n    def __call__(s): return s.f()\n"
            "@D\ndef h(): return 1\ndef train(): return h()"
        ),
        "return 1",
        "return 2",
    ),
    "argument_of_a_class_based_decorator_that_wraps": (
        (
            "import functools\nclass D:\n    def __init__(s, f, n):\n        s.n = n\n"
            "        functools.update_wrapper(s, f)\n    def __call__(s): return s.n\n"
            "def f(): pass\nh = D(f, 1)\ndef train(): return h()"
        ),
        "D(f, 1)",
        "D(f, 2)",
    ),
    "default_factory_of_a_dict": (
        "from collections import defaultdict\nTABLE = defaultdict(lambda: 1)\ndef train(): return TABLE[0]",
        "lambda: 1",
        "lambda: 2",
    ),
}


@pytest.mark.parametrize("case", SNIPPETS)
def test_a_change_is_seen_in_a(project: Project, case: str) -> None:
    text, old, new = SNIPPETS[case]
    project.write(
        steps=text,
        helper="def f(): return 1\ndef g(): return 2\n",
        reader="def read(thing): return thing.__doc__\n",
    )
    assert project.changed_by("steps", old, new)


READ = "import pathlib\ndef read(): return pathlib.Path(__file__).with_name('data.py').read_text()\n"
LIVE: dict[str, str] = {
    "global": "K = read()\ndef train(): return K",
    "class_attribute": "class A:\n    k = read()\ndef train(): return A.k",
    "class_attribute_set_later": "class A:\n    k = 0\nA.k = read()\ndef train(): return A.k",
    "class_attribute_set_by_name": "class A: pass\nsetattr(A, 'k', read())\ndef train(): return A.k",
    "attribute_of_an_inner_class": (
        "class A:\n    class B:\n        k = 0\nA.B.k = read()\ndef train(): return A.B.k"
    ),
    "attribute_of_a_class_made_by_type": "A = type('A', (), {'k': read()})\ndef train(): return A.k",
    "table_in_a_class": "class A:\n    t = {}\nA.t[1] = read()\ndef train(): return A.t",
    "enum_member": "import enum\nclass A(enum.Enum):\n    k = read()\ndef train(): return A",
    "dataclass_default": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    k: str = read()\ndef train(): return A()"
    ),
    "default_in_a_dataclass_with_slots": (
        "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass A:\n    k: str = read()\n"
        "def train(): return A()"
    ),
    "default_of_a_named_tuple": (
        "import typing\nclass A(typing.NamedTuple):\n    k: str = read()\ndef train(): return A()"
    ),
    "pydantic_default": (
        "import pydantic\nclass A(pydantic.BaseModel):\n    k: str = read()\ndef train(): return A()"
    ),
    "function_attribute": "def h(): return h.k\nh.k = read()\ndef train(): return h()",
    "namespace": "import types\nN = types.SimpleNamespace(k=read())\ndef train(): return N.k",
    "arguments": (
        "import argparse\nP = argparse.ArgumentParser()\nP.add_argument('--k')\n"
        "args = P.parse_args(['--k', read()])\ndef train(): return args.k"
    ),
    "plain_object": "class A:\n    def __init__(s): s.k = read()\na = A()\ndef train(): return a.k",
    "object_with_slots": (
        "class A:\n    __slots__ = ('k',)\n    def __init__(s): s.k = read()\n"
        "a = A()\ndef train(): return a.k"
    ),
    "pydantic_model": (
        "import pydantic\nclass A(pydantic.BaseModel):\n    k: str\na = A(k=read())\ndef train(): return a.k"
    ),
    "numpy_array": "import numpy\na = numpy.array([read()])\ndef train(): return a",
    "numpy_scalar": "import numpy\na = numpy.float64(read())\ndef train(): return a",
    "pandas_frame": "import pandas\na = pandas.DataFrame({'a': [read()]})\ndef train(): return a",
    "polars_frame": "import polars\na = polars.DataFrame({'a': [read()]})\ndef train(): return a",
    "item_getter": "import operator\ng = operator.itemgetter(read())\ndef train(x): return g(x)",
    "bound_method": (
        "class A:\n    def __init__(s): s.k = read()\n    def m(s): return s.k\n"
        "g = A().m\ndef train(): return g()"
    ),
    "bytes": "K = read().encode() * 1000\ndef train(): return K",
}


@pytest.mark.parametrize("case", LIVE)
def test_a_value_counts_by_what_it_is_and_not_by_its_text(project: Project, case: str) -> None:
    project.write(steps=READ + LIVE[case], data="1")
    assert project.changed_by("data", "1", "2")


def test_a_docstring_that_nobody_reads_does_not_count_though_others_are_read(project: Project) -> None:
    project.write(steps="def h():\n    'one'\ndef train(): return h()\ndef other(): return h.__doc__")
    assert not project.changed_by("steps", "'one'", "'two'")


BODIES = {
    "import_of_a_module": "import pkg.helper\n    return pkg.helper.f()",
    "import_as": "import pkg.helper as h\n    return h.f()",
    "from_module_import_function": "from pkg.helper import f\n    return f()",
    "from_module_import_function_as": "from pkg.helper import f as g\n    return g()",
    "from_package_import_module": "from pkg import helper\n    return helper.f()",
    "from_package_reexport": "from pkg import again\n    return again()",
    "star_reexport": "from pkg.stars import f\n    return f()",
    "relative_chain": "from pkg.sub.inner import up\n    return up()",
    "constant": "from pkg.helper import CONSTANT\n    return CONSTANT",
    "changed_constant": "from pkg.helper import TABLE\n    return TABLE",
    "class": "from pkg.helper import Thing\n    return Thing()",
    "module_as_a_value": "from pkg import helper\n    return getattr(helper, 'f')()",
    "nested_body_import": "from pkg.sub.inner import late\n    return late()",
    "lazy_attribute": "from pkg.lazy import f\n    return f()",
    "inside_a_nested_function": (
        "def inner():\n        from pkg.helper import f\n        return f()\n    return inner()"
    ),
}
PACKAGE = {
    "pkg__in____init__": "from .helper import f as again\nimport nowhere_to_be_found\n",
    "pkg__in__helper": (
        "try:\n    from math import tau\nexcept ImportError:\n    tau = 6\n"
        "def f(): return g()\ndef g(): return K\nK = 1\nCONSTANT = [K]\n"
        "TABLE = {}\nfor name in 'ab':\n    TABLE[name] = K\n"
        "class Thing:\n    def h(self): return g()\n"
        "def unused(): return 'unused'\n"
    ),
    "pkg__in__stars": "from .helper import *\n",
    "pkg__in__lazy": "def __getattr__(name):\n    from . import helper\n    return getattr(helper, name)\n",
    "pkg__in__sub__in____init__": "",
    "pkg__in__sub__in__inner": (
        "from ..helper import f\nfrom .....beyond import x\ndef up(): return f()\n"
        "def late():\n    from .. import helper\n    return helper.f()\n"
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_what_is_imported_inside_a_body_counts_and_is_not_executed(project: Project, case: str) -> None:
    project.write(steps=f"def train():\n    {BODIES[case]}\n", **PACKAGE)
    # pkg/__init__.py cannot be imported: executing it would fail.
    assert project.changed_by("pkg/helper", "K = 1", "K = 2")


@pytest.mark.parametrize("case", sorted(set(BODIES) - {"module_as_a_value", "lazy_attribute"}))
def test_what_a_body_imports_counts_by_name_and_not_by_module(project: Project, case: str) -> None:
    project.write(steps=f"def train():\n    {BODIES[case]}\n", **PACKAGE)
    assert not project.changed_by("pkg/helper", "'unused'", "'changed'")


@pytest.mark.parametrize("case", BODIES)
def test_whether_a_body_import_is_loaded_by_now_does_not_matter(project: Project, case: str) -> None:
    importable = {name: text.replace("import nowhere_to_be_found", "") for name, text in PACKAGE.items()}
    importable["pkg__in__sub__in__inner"] = importable["pkg__in__sub__in__inner"].replace(
        "from .....beyond import x\n", ""
    )
    project.write(steps=f"def train():\n    {BODIES[case]}\n", **importable)
    loaded = ("pkg.helper", "pkg.stars", "pkg.lazy", "pkg.sub.inner")
    assert project.explain() == project.explain("steps:train", *loaded)


def test_a_body_import_of_a_module_that_is_not_there_is_no_error(project: Project) -> None:
    project.write(
        steps="def train():\n    import nowhere.to_be.found as x\n    from .. import y\n    x.f()\n"
    )
    assert list(project.explain()) == ["steps:train"]


def test_a_body_import_of_a_module_with_a_syntax_error_is_no_error(project: Project) -> None:
    project.write(steps="def train():\n    from broken import x\n    return x\n", broken="def")
    assert list(project.explain()) == ["steps:train"]


def test_a_submodule_that_is_not_loaded_yet_is_read(project: Project) -> None:
    project.write(
        steps="import pkg\ndef train(): return pkg.late.f()\n",
        pkg__in____init__="",
        pkg__in__late="def f(): return 1\n",
    )
    assert project.changed_by("pkg/late", "return 1", "return 2")


def test_a_namespace_package_is_searched(project: Project) -> None:
    project.write(
        steps="import space.mod\ndef train(): return space.mod.f()", space__in__mod="def f(): return 1"
    )
    assert project.changed_by("space/mod", "return 1", "return 2")


def test_installed_packages_are_left_out(project: Project) -> None:
    project.write(
        steps=(
            "import sys; sys.path.insert(0, __file__[:-8] + 'x/site-packages')\nimport installed, json\n"
            "def train():\n    import installed as again\n"
            "    return installed.f(), json.dumps(1), again.f()\n"
        ),
        **{"x__in__site-packages__in__installed": "def f(): return 1\n"},
    )
    assert list(project.explain()) == ["steps:train"]
    assert not project.changed_by("x/site-packages/installed", "return 1", "return 2")


def test_a_function_of_the_project_behind_an_installed_decorator_counts(project: Project) -> None:
    project.write(
        steps=(
            "import sys; sys.path.insert(0, __file__[:-8] + 'x/site-packages')\nfrom installed import deco\n"
            "@deco\ndef h(): return 1\ndef train(): return h()\n"
        ),
        **{
            "x__in__site-packages__in__installed": (
                "def deco(f):\n    def wrapper(): return f()\n    return wrapper\n"
            )
        },
    )
    assert list(project.explain()) == ["steps:h", "steps:train"]
    assert project.changed_by("steps", "return 1", "return 2")


def test_a_step_of_an_installed_package_counts_with_its_whole_package(project: Project) -> None:
    project.write(
        **{
            "site-packages__in__mine__in____init__": "",
            "site-packages__in__mine__in__steps": "from .tools import f\ndef train(): return f()\n",
            "site-packages__in__mine__in__tools": "def f(): return 1\n",
        }
    )
    (project.directory / "mine").symlink_to("site-packages/mine")
    assert list(project.explain("mine.steps:train")) == ["mine.steps:train", "mine.tools:f"]


def test_zen_mlmd_itself_is_left_out(project: Project) -> None:
    project.write(
        steps=(
            "from zen_mlmd.fingerprint import code_fingerprint\n"
            "def train():\n    import zen_mlmd.errors as e\n    return code_fingerprint(e.UsageError)\n"
        )
    )
    assert list(project.explain()) == ["steps:train"]


def test_does_not_depend_on_the_hash_seed(project: Project) -> None:
    project.write(
        steps=(
            "S = {'a', 'b', 'c', 'd'}\nF = frozenset(S)\n"
            "def train(x): return x in S or x in {'p', 'q', 'r'}, F"
        )
    )
    exec_made = "names = {}\nexec(\"def f(x): return x in {'p', 'q', 'r', 's'}\", names)\nf = names['f']"
    project.write(made=exec_made)
    for function in ("steps:train", "made:f"):
        assert len({project.python(EXPLAIN, function, seed=seed) for seed in "0123"}) == 1


def test_does_not_depend_on_the_directory(project: Project, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        other = Project(tmp_path / name)
        other.write(steps=STEP + "\ndef here(): return __file__, __name__, train\n", tools=TOOLS)
        found.append(other.python(EXPLAIN, "steps:here"))
    assert found[0] == found[1]


TAIL = """
from zen_mlmd import fingerprint

def ask(_):
    return fingerprint.code_fingerprint(train)

if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(ask(0), *pool.map(ask, [0]))
"""


@pytest.mark.parametrize("start", [["steps.py"], ["-m", "steps"]])
def test_a_script_its_spawned_workers_and_its_importers_agree(project: Project, start: list[str]) -> None:
    project.write(steps=STEP + TAIL, tools=TOOLS)
    command = [sys.executable, *start]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=variables, cwd=project.directory, check=True
    )
    imported = json.loads(project.python(EXPLAIN, "steps:train"))[0]
    assert done.stdout.split() == [imported, imported]


MANY_KINDS = """
import collections, dataclasses, enum, functools

class Color(enum.Enum):
    red = 1

@dataclasses.dataclass(frozen=True)
class Point:
    x: float = 0.5
    def half(self): return Point(self.x / 2)

Pair = collections.namedtuple("Pair", "a b")
POINTS = [Point(1.0), Color.red, 10 ** 30, -0.0, frozenset("ab"), b"x", None, ...]

@functools.lru_cache(maxsize=None)
def cached(n): return [Color(i) for i in range(n) if (m := i)]

def train(x, y, *, sep=(1, "a")):
    with open(x) as f, open(y): pass
    return f"a{x!r:>{y}} b" "c" f"{x=}", u"x", 1_0, -1, Pair(1, 2), POINTS, cached(1), x[1:2, ...]
"""


def test_is_the_same_on_all_python_versions(project: Project) -> None:
    # Recorded runs hold fingerprints: a change of this value makes every step's cache miss once.
    project.write(steps=MANY_KINDS)
    fingerprint, pieces = json.loads(project.python(EXPLAIN, "steps:train"))
    assert list(pieces) == [
        "steps:Color",
        "steps:POINTS",
        "steps:Pair",
        "steps:Point",
        "steps:Point.half",
        "steps:cached",
        "steps:collections",
        "steps:train",
    ]
    assert fingerprint == "sha256:e180ed5ce45fe222e7ca2b1fe68dff4d045402292665769b8655f359b3295b7f"


def test_functions_that_call_each_other_end(project: Project) -> None:
    project.write(
        steps="import other\ndef train(n): return other.back(n) if n else train(n)\n",
        other="import steps\ndef back(n): return steps.train(n - 1)\n",
    )
    assert list(project.explain()) == ["other:back", "steps:train"]


def test_a_module_that_is_passed_on_counts_as_a_whole(project: Project) -> None:
    project.write(
        steps="import helper\ndef train(name): return getattr(helper, name)()\n",
        helper="import json\ndef f(): return 1\nprint\n",
    )
    assert list(project.explain()) == ["helper:<module>", "helper:f", "helper:json", "steps:train"]
    assert project.changed_by("helper", "return 1", "return 2")


def test_a_finder_that_fails_does_not_matter(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "helper":
                raise RuntimeError

    project.write(
        steps="def train():\n    import helper\n    return helper.f()\n", helper="def f(): return 1"
    )
    monkeypatch.setattr(sys, "meta_path", [Failing(), *sys.meta_path])
    assert list(project.explain()) == ["helper:f", "steps:train"]


def test_a_class_whose_looks_fail_is_named_as_unreadable(project: Project) -> None:
    project.write(
        steps=(
            "class M(type):\n    def __getattribute__(cls, name): raise RuntimeError\n"
            "class A(metaclass=M): pass\ndef train(): return A\n"
        )
    )
    assert "steps:train" in project.explain()


def test_two_functions_with_equal_code_are_told_apart_by_their_lines(project: Project) -> None:
    project.write(
        steps=(
            "class A:\n    def run(self, x: int): return x\n"
            "class B:\n    def run(self, x: str): return x\n"
            "train = A().run\n"
        )
    )
    before = project.explain()["steps:A.run"]
    assert project.changed_by("steps", "x: str", "x: bytes") is False
    assert project.changed_by("steps", "x: int", "x: bytes")
    assert project.explain()["steps:A.run"] != before


def test_a_global_that_functions_rebind_does_not_count_by_its_value_of_the_moment(project: Project) -> None:
    project.write(
        steps=("n = None\ndef train():\n    global n\n    n = 1\n    return n\n"),
        used="import steps\nsteps.train()\n",
    )
    assert project.explain() == project.explain("steps:train", "used")


def test_data_that_contains_itself_ends(project: Project) -> None:
    project.write(steps="L = [1]\nL.append(L)\ndef train(): return L\n")
    assert list(project.explain()) == ["steps:L", "steps:train"]


def test_a_long_chain_of_helpers_is_followed_to_its_end(project: Project) -> None:
    chain = "".join(f"def f{n}(): return f{n + 1}()\n" for n in range(1500))
    project.write(steps=chain + "def f1500(): return 1\ntrain = f0\n")
    assert project.changed_by("steps", "return 1\n", "return 2\n")


def test_a_local_name_does_not_bring_in_a_global_of_the_same_name(project: Project) -> None:
    project.write(
        steps=(
            "rows = [1]\nhead = 1\ndata = 1\nname = 1\nwidth = 1\nrest = 1\nos = 1\ninner = 1\nerror = 1\n"
            "def train(rows, *data, **name):\n"
            "    head = rows.width\n"
            "    import os\n"
            "    def inner(rest): return rest, head\n"
            "    try: pass\n    except ValueError as error: print(error)\n"
            "    return inner, os, data, name, [width for width in rows], (lambda width: width)\n"
        )
    )
    assert list(project.explain()) == ["steps:train"]


def test_names_bound_by_a_pattern_are_local(project: Project) -> None:
    project.write(
        steps=(
            "a = b = c = d = 1\ndef train(x):\n    match x:\n        case [a, *b]: return a, b\n"
            "        case {'k': c, **d}: return c, d\n"
        )
    )
    assert list(project.explain()) == ["steps:train"]


# -- in this process: code without a file, or with one that has changed


def make(text: str, name: str, filename: str, **names: Any) -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(text, filename, "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function


def cell(text: str, filename: str) -> Callable[..., Any]:
    """Define `f` as a notebook does: the text is in linecache only."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    return make(text, "f", filename)


def test_a_notebook_cell_counts_by_its_text() -> None:
    plain = cell("def f():\n    return 1\n", "<cell-1>")
    commented = cell("# a comment\n\ndef f():\n    '''Doc.'''\n    return (1)\n", "<cell-2>")
    changed = cell("def f():\n    return 2\n", "<cell-3>")
    assert code_fingerprint(plain) == code_fingerprint(commented) != code_fingerprint(changed)


def test_a_class_in_a_notebook_cell_counts_by_its_text() -> None:
    texts = [
        "class A:\n    n = 1\n    def g(self): return 1\ndef f(): return A()\n",
        (
            "class A:\n    '''Doc.'''\n    n = 1\n\n    def g(self):\n"
            "        return 1\n\ndef f():\n    return A()\n"
        ),
        "class A:\n    n = 2\n    def g(self): return 1\ndef f(): return A()\n",
    ]
    first, same, other = (code_fingerprint(cell(text, f"<c-{n}>")) for n, text in enumerate(texts))
    assert first == same != other


def test_a_cell_with_top_level_await_can_be_read() -> None:
    text = "def f():\n    return 1\n"
    other = "import asyncio\ndef f():\n    return 1 # one\nawait asyncio.sleep(0)\n"
    filename = "<cell-await>"
    linecache.cache[filename] = (len(other), None, other.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": "__main__"}
    asyncio.run(eval(compile(other, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), scope))
    assert code_fingerprint(scope["f"]) == code_fingerprint(cell(text, "<cell-plain>"))


def test_without_a_text_the_bytecode_counts() -> None:
    first = make("def f(x):\n    return x + 1\n", "f", "<nowhere>")
    moved = make("\n\n# comment\ndef f(x):\n    return x + 1\n", "f", "<nowhere else>")
    other = make("def f(x):\n    return x + 2\n", "f", "<nowhere>")
    assert code_fingerprint(first) == code_fingerprint(moved) != code_fingerprint(other)


def test_a_file_that_was_edited_after_it_was_loaded_counts_as_it_was_loaded(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("def f():\n    return 1\n")
    running = make(path.read_text(), "f", str(path), __file__=str(path), __name__="edited")
    before = code_fingerprint(running)
    path.write_text("def f():\n    return 2222\n")
    stale = code_fingerprint(running)
    reloaded = make(path.read_text(), "f", str(path), __file__=str(path), __name__="edited")
    assert len({before, stale, code_fingerprint(reloaded)}) == 3


def test_lines_that_moved_after_loading_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "moved.py"
    path.write_text("def f():\n    return 1\n")
    running = make(path.read_text(), "f", str(path), __file__=str(path), __name__="moved")
    before = code_fingerprint(running)
    path.write_text("def g():\n    return 3\n\n\ndef f():\n    return 1\n")
    assert code_fingerprint(running) == before


def test_a_module_in_a_zip_file_counts_by_its_text(project: Project) -> None:
    found = []
    for text in ("def f(): return 1", "def f():\n    # one\n    return 1", "def f(): return 2"):
        with zipfile.ZipFile(project.directory / "code.zip", "w") as archive:
            archive.writestr("zipped.py", text)
        project.write(
            steps="import sys; sys.path.insert(0, 'code.zip')\nfrom zipped import f\ndef train(): f()"
        )
        found.append(project.python(EXPLAIN, "steps:train"))
    assert found[0] == found[1] != found[2]


def test_a_closure_variable_that_has_no_value_yet_is_no_error() -> None:
    def outer() -> Callable[[], int]:
        def inner() -> int:
            return later

        code_fingerprint(inner)
        later = 1
        return inner

    assert code_fingerprint(outer()).startswith("sha256:")


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> None: ...

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Lying:
    """As a werkzeug LocalProxy outside a request."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError

    def __call__(self) -> None: ...


@dataclasses.dataclass
class Failing:
    value: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __call__(self) -> None: ...


CALLABLES: list[Callable[[], Any]] = [
    lambda: len,
    lambda: dict,
    lambda: dict.get,
    lambda: "x".upper,
    lambda: operator.itemgetter(1),
    lambda: json.dumps,
    lambda: functools.partial(len),
    lambda: functools.partial(functools.partial(Hostile()), 1),
    lambda: type,
    lambda: Hostile,
    Hostile,
    Lying,
    Failing,
    lambda: Path.cwd,
    lambda: functools.lru_cache(len),
    lambda: Callable,
    lambda: lambda: Hostile,
    lambda: json.JSONEncoder().encode,
    lambda: object.__init__,
    lambda: functools.wraps(len)(lambda: 1),
]


@pytest.mark.parametrize("make_callable", CALLABLES)
def test_never_raises_and_repeats_itself_for_any_callable(make_callable: Callable[[], Any]) -> None:
    function = make_callable()
    first = explain_fingerprint(function)
    assert first
    assert explain_fingerprint(function) == first


def test_two_c_functions_differ() -> None:
    assert code_fingerprint(len) != code_fingerprint(print)


def test_an_endless_chain_of_wrapped_functions_ends() -> None:
    def function() -> None: ...

    function.__wrapped__ = function  # type: ignore[attr-defined]
    assert code_fingerprint(function).startswith("sha256:")


def test_a_global_that_fails_when_it_is_looked_at_is_no_error() -> None:
    function = make("def f(): return a", "f", "<failing>", a=Failing())
    assert {"a", "f"} <= {key.partition(":")[2] for key in explain_fingerprint(function)}


def _value_fingerprint(value: object) -> str:
    return code_fingerprint(make("def f(): return VALUE", "f", "<value>", VALUE=value))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, values)
def test_constants_have_equal_fingerprints_exactly_if_they_are_written_alike(
    one: object, two: object
) -> None:
    assert (_value_fingerprint(one) == _value_fingerprint(two)) == (repr(one) == repr(two))


@given(st.sets(st.integers() | st.text(max_size=3)))
def test_the_order_in_a_set_does_not_count(items: set[int | str]) -> None:
    backwards = set(dict.fromkeys(list(items)[::-1]))
    assert _value_fingerprint(items) == _value_fingerprint(backwards)


def test_a_very_long_integer_is_no_error() -> None:
    assert _value_fingerprint(10**5000) != _value_fingerprint(10**5000 + 1)


def test_a_typical_step_takes_less_than_five_milliseconds_after_the_first(project: Project) -> None:
    project.write(steps=STEP, tools=TOOLS)
    code = (
        "import steps, time\nc = fingerprint.code_fingerprint\nc(steps.train)\ncosts = []\n"
        "for _ in range(20):\n"
        "    t = time.perf_counter(); c(steps.train); costs.append(time.perf_counter() - t)\n"
        "print(min(costs))"
    )
    assert float(project.python(code)) < 0.005


def test_the_fingerprint_is_a_hash_over_the_pieces(project: Project) -> None:
    project.write(steps=STEP, tools=TOOLS)
    first, pieces = json.loads(project.python(EXPLAIN, "steps:train"))
    project.write(tools=TOOLS.replace("return x - 1", "return x - 2"))
    second, changed = json.loads(project.python(EXPLAIN, "steps:train"))
    assert pieces != changed
    assert first != second
    assert len(first) == len("sha256:") + 64
