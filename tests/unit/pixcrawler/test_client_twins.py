"""The two clients are written twice and say the same: without its waiting, the one for asyncio is the blocking one."""

import ast
import inspect

import pytest

from pixcrawler import aio, client

#: What asyncio's things are called where nothing waits.
_NAMES = {
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "AsyncBaseTransport": "BaseTransport",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aread": "read",
}
#: They differ in more than waiting: how one sleeps, and how one piece becomes a body.
_APART = {"__init__", "_send_part"}


class _WithoutWaiting(ast.NodeTransformer):
    """Turns code for asyncio into the code that blocks."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        fields = dict(ast.iter_fields(node))
        return ast.FunctionDef(**(fields | {"name": _NAMES.get(node.name, node.name)}))

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        self.generic_visit(node)
        return ast.For(**dict(ast.iter_fields(node)))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        return ast.With(**dict(ast.iter_fields(node)))

    def visit_For(self, node: ast.For) -> ast.AST:
        """`yield from`, which an async generator does not have."""
        self.generic_visit(node)
        match node.body:
            case [ast.Expr(value=ast.Yield(value=ast.Name(id="each")))]:
                return ast.Expr(ast.YieldFrom(node.iter))
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        return node.value

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node.func) == "asyncio.to_thread":
            return ast.Call(node.args[0], node.args[1:], node.keywords)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(_NAMES.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        return ast.Attribute(node.value, _NAMES.get(node.attr, node.attr))


def _methods(kind: type) -> dict[str, str]:
    """The source of each method, in one spelling and without waiting."""
    (made,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(made, ast.ClassDef)
    methods = [each for each in made.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        _NAMES.get(each.name, each.name): ast.unparse(ast.fix_missing_locations(_WithoutWaiting().visit(each)))
        for each in methods
    }


BLOCKING, WAITING = _methods(client.Client), _methods(aio.AsyncClient)


def test_both_clients_have_the_same_operations_in_the_same_order() -> None:
    assert list(WAITING) == list(BLOCKING)


@pytest.mark.parametrize("name", sorted(BLOCKING.keys() - _APART))
def test_an_operation_is_the_same_in_both(name: str) -> None:
    assert WAITING.get(name) == BLOCKING[name]
