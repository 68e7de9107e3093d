"""What the project checks: `./test.sh` runs all of it, `./test.sh -s lint` one part."""

import shutil

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "layers", "tests", "example", "minimal"]

PROJECT = nox.project.load_toml("pyproject.toml")
# ml-metadata 1.17.1 has wheels for 3.10 and 3.11; newer Pythons need its 1.21.0, and glibc 2.39.
PYTHONS = ["3.10", "3.11"]
PARALLEL = ["-n", "4"]
"""More than there are cores: many tests wait for a server or another process."""
ON_EACH_PYTHON = ["cache", "pipelines", "recording"]
TESTS = nox.project.dependency_groups(PROJECT, "test")
TYPES = nox.project.dependency_groups(PROJECT, "types")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and dead dependencies."""
    session.install("ruff>=0.8", "deptry>=0.20")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.install(".")
    session.run("deptry", "zen_mlmd")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """mypy --strict over package and tests."""
    session.install("-e", ".", *TESTS, *TYPES)
    session.run("mypy")


@nox.session(python="3.11")
def layers(session: nox.Session) -> None:
    """No layer imports one above it."""
    session.install("-e", ".", "import-linter>=2.1")
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite: on the newest Python all of it."""
    session.install("-e", ".", *TESTS)
    if session.python == PYTHONS[-1] or not shutil.which(f"python{PYTHONS[-1]}"):
        session.run("pytest", *PARALLEL, "-m", "not exhaustive", "--durations=30", *session.posargs)
    else:
        # What could differ between Pythons is ours: neither databases, servers nor what other writers wrote.
        wanted = ["tests/unit", *(f"tests/integration/test_{each}.py" for each in ON_EACH_PYTHON)]
        without = ["-m", "not slow and not exhaustive and not mysql and not postgresql"]
        session.run("pytest", *PARALLEL, *without, *wanted, *session.posargs)


@nox.session(python="3.11", default=False)
def exhaustive(session: nox.Session) -> None:
    """More variants of what the test suite shows: other databases below the same test, other seeds."""
    session.install("-e", ".", *TESTS)
    session.run("pytest", *PARALLEL, "-m", "exhaustive", *session.posargs)


@nox.session(python="3.11", default=False)
def coverage(session: nox.Session) -> None:
    """The whole test suite again, traced, which takes half as long again: no less than 95 % may be run."""
    session.install("-e", ".", *TESTS)
    session.run("coverage", "erase")
    session.run("pytest", *PARALLEL, "--cov", "--cov-report=term", *session.posargs)


@nox.session(python="3.11")
def example(session: nox.Session) -> None:
    """The package with a flavor of its own, installed as its author would, against the shipped contract."""
    session.install(".[testing]", "./examples/team-flavor")
    session.run("pytest", "examples/team-flavor", *session.posargs)


@nox.session(python="3.11", default=False)
def differential(session: nox.Session) -> None:
    """Many more random requests to ml-metadata and to the SQL service than the test suite makes."""
    session.install("-e", ".", *TESTS)
    env = {"ZEN_MLMD_DIFFERENTIAL_STEPS": "10000"}
    session.run(
        "pytest", "-n", "2", "--timeout", "3600", "tests/sql/test_differential.py", *session.posargs, env=env
    )


@nox.session
def minimal(session: nox.Session) -> None:
    """A plain install without any extra runs the main job."""
    session.install(".")
    session.run(
        "python",
        "-c",
        "import sys, zen_mlmd; sys.exit('ml_metadata' in sys.modules or 'grpc' in sys.modules)",
    )
    session.run("zen-mlmd", "quickstart", "--folder", session.create_tmp())
    session.run("zen-mlmd", "serve", "--store", "sqlite://", success_codes=[1])  # it names the missing extra


@nox.session(python="3.11", default=False)
def benchmarks(session: nox.Session) -> None:
    """Ratios of two things run side by side, as tables."""
    session.install("-e", ".", *TESTS)
    session.run("python", "-m", "benchmarks", *session.posargs)
