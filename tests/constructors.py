"""What a class's constructor takes, **kwargs followed from `__init__` to `__init__`."""

import inspect


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Every parameter but self; annotations evaluated."""
    found: dict[str, inspect.Parameter] = {}
    for ancestor in kind.__mro__[:-1]:
        if "__init__" in vars(ancestor):
            own = inspect.signature(vars(ancestor)["__init__"], eval_str=True).parameters
            found = {**own, **found}
            named = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
            if len(named) == len(own):
                break
    return {name: p for name, p in found.items() if name != "self" and "VAR" not in p.kind.name}
