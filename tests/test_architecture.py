"""Who may import what: read from the sources, so that an import inside a function counts too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "aioelect"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
PURE = ("value.py", "model.py", "naming.py", "lease.py", "candidacy.py", "events.py", "guard/deadlines.py")


def imports(module: Path) -> Iterator[str]:
    """The full names that a module imports; ``from a import b`` counts as ``a.b``."""
    package = ("aioelect", *module.parts)[:-1]
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def reaches(module: Path, *names: str) -> set[str]:
    """What a module imports of these packages."""
    return {found for found in imports(module) if any(f"{found}.".startswith(f"{name}.") for name in names)}


def test_the_modules_are_found() -> None:
    assert {Path(name) for name in PURE} <= set(MODULES)
    assert Path("zookeeper/wire.py") in MODULES


def test_imports_are_read() -> None:
    assert "aiozk.protocol" in set(imports(Path("zookeeper/wire.py")))
    assert reaches(Path("candidacy.py"), "aioelect.model") == {"aioelect.model.LossReason"}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_know_no_loop_no_clock_and_no_chance(name: str) -> None:
    assert not reaches(
        Path(name), "asyncio", "anyio", "aiozk", "time", "datetime", "random", "secrets", "os", "socket", "threading"
    )


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_pure_modules_only(name: str) -> None:
    allowed = tuple(f"aioelect.{Path(other).stem}" for other in PURE)
    assert {found for found in reaches(Path(name), "aioelect") if not found.startswith(allowed)} == set()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_aiozk_stays_where_it_belongs(module: Path) -> None:
    if module.parts[0] != "zookeeper" and module != Path("errors.py"):
        assert not reaches(module, "aiozk")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_but_the_command_line_needs_testing(module: Path) -> None:
    if module.parts[0] != "testing" and not module.parts[0].startswith("cli"):
        assert not reaches(module, "aioelect.testing")


@pytest.mark.parametrize("module", [path for path in MODULES if path.parts[0] == "testing"], ids=str)
def test_only_the_pytest_plugin_imports_pytest(module: Path) -> None:
    if "plugin" not in module.stem:
        assert not reaches(module, "pytest", "_pytest", "pytest_asyncio")


@pytest.mark.parametrize("module", [path for path in MODULES if path.parts[0] != "testing"], ids=str)
def test_nothing_that_is_used_in_production_imports_pytest(module: Path) -> None:
    assert not reaches(module, "pytest", "_pytest", "pytest_asyncio")
