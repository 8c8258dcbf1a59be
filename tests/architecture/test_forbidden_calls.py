"""What no module of the package may do: run data as code, unpickle, or read the environment behind the knobs' back."""

import ast
from collections.abc import Iterator

from penjing.core import knobs

UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNS_CODE = {"eval", "exec"}
CAUGHT_ONLY = {"pickle.UnpicklingError"}  # what torch.load raises on a damaged file, weights_only or not
SHELLS = {"os.system", "os.popen"}
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"}


def used_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(`module.name`, line) of every attribute taken and of every name imported from a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node), node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_no_module_runs_data_as_code(sources):
    offences = [
        f"{source.path}:{call.lineno}: {ast.unparse(call.func)}"
        for source in sources
        for call in source.calls()
        if ast.unparse(call.func) in RUNS_CODE | SHELLS
        or any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)
    ]
    assert not offences, "\n".join(offences)


def test_no_module_unpickles(sources):
    offences = []
    for source in sources:
        for name, line in used_names(source.tree):
            if name.partition(".")[0] in UNPICKLERS and name not in CAUGHT_ONLY:
                offences.append(f"{source.path}:{line}: {name}")
        for call in source.calls():
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            unsafe = words.get("allow_pickle", "False") != "False"
            unsafe |= ast.unparse(call.func) == "torch.load" and words.get("weights_only") != "True"
            if unsafe:
                offences.append(f"{source.path}:{call.lineno}: {ast.unparse(call.func)} may unpickle")
    assert not offences, "\n".join(offences)


def test_only_the_knobs_read_the_environment(sources):
    offences = [
        f"{source.path}:{line}: {name}"
        for source in sources
        if source.path.as_posix() != "core/knobs.py"
        for name, line in used_names(source.tree)
        if name in ENVIRONMENT
    ]
    assert not offences, f"read it through {knobs.__name__}:\n" + "\n".join(offences)
