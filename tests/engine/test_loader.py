"""Loading flow files: as ``python FILE`` would, and every mistake in words a person can act on."""

from __future__ import annotations

import os
import pickle
import sys
from textwrap import dedent

import pytest
from flowdeck.engine.authoring.loader import find_flow, load_flow_file
from flowdeck.engine.system.flow_files import BrokenFlowFile, find_flow_files, looks_like_flow_file

GOOD = """
from flowdeck import flow

@flow
def etl(day: str = "today"):
    '''Moves rows.'''
    return day
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of the user's; what imports leave behind is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = dict(sys.modules)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return str(path)

    yield write
    for name in set(sys.modules) - set(modules):
        if name.startswith(("flow_file_", "beside", "deeper")):
            del sys.modules[name]


def broken(path):
    with pytest.raises(BrokenFlowFile) as caught:
        load_flow_file(path)
    return caught.value


def test_a_file_gives_its_flows_by_name(write):
    """The flow, its docstring and a hash of the text."""
    loaded = load_flow_file(write("etl.py", GOOD))
    assert list(loaded.flows) == ["etl"]
    assert loaded.flows["etl"].description == "Moves rows."
    assert loaded.module.__file__ == loaded.path
    assert len(loaded.source_hash) == 16


def test_main_guard_and_bare_calls_do_not_run(write, tmp_path):
    """Loading never runs a flow: neither under the guard nor called by mistake at the top level."""
    load_flow_file(write("etl.py", f"""
        from flowdeck import flow
        @flow
        def etl():
            open({str(tmp_path / "ran")!r}, "w").close()
        etl()
        if __name__ == "__main__":
            etl()
    """))
    assert not os.path.exists(tmp_path / "ran")


def test_module_beside_the_file_imports_as_for_python_file(write):
    """``sys.path[0]`` is the file's folder, ``sys.argv`` its path; local imports are reported, others are not."""
    write("beside_it.py", "import beside_too\nVALUE = 7\n")
    write("beside_too.py", "")
    write("deeper/__init__.py", "")
    write("deeper/part.py", "")
    path = write("etl.py", """
        import sys, deeper.part, colorsys
        from beside_it import VALUE
        ARGUMENTS = list(sys.argv)
        from flowdeck import flow
        @flow
        def etl(): ...
    """)
    loaded = load_flow_file(path)
    assert (7, [path]) == (loaded.module.VALUE, loaded.module.ARGUMENTS)
    folder = os.path.dirname(path)
    assert set(loaded.imports) == {f"{folder}/{name}" for name in (
        "beside_it.py", "beside_too.py", "deeper/__init__.py", "deeper/part.py")}


def test_the_module_name_is_one_name_per_path(write):
    """Two files of one name do not clash; the same file has one name, so pickled classes are found again."""
    text = GOOD + "\nclass Row:\n    pass\n"
    first, second = load_flow_file(write("a/etl.py", text)), load_flow_file(write("b/etl.py", text))
    assert first.module.__name__ != second.module.__name__
    data = pickle.dumps(first.module.Row())
    again = load_flow_file(first.path)
    assert again.module.__name__ == first.module.__name__
    assert isinstance(pickle.loads(data), again.module.Row)


def test_an_edit_within_the_second_is_seen(write):
    """Same size, same second: bytecode caches play no part."""
    first = load_flow_file(write("etl.py", GOOD + "\nN = 1\n"))
    second = load_flow_file(write("etl.py", GOOD + "\nN = 2\n"))
    assert (first.module.N, second.module.N) == (1, 2)
    assert first.source_hash != second.source_hash


def test_flows_of_other_files_are_told_apart(write):
    """An imported flow belongs to the file that holds it, yet can be named."""
    write("beside_flows.py", GOOD)
    path = write("main.py", """
        from flowdeck import flow
        from beside_flows import etl
        @flow
        def own(): ...
    """)
    loaded = load_flow_file(path)
    assert (list(loaded.flows), list(loaded.imported_flows)) == (["own"], ["etl"])
    assert find_flow(path).name == "own"
    assert find_flow(path, "etl").name == "etl"


@pytest.mark.parametrize(("text", "line", "words"), [
    ("from flowdeck import flow\n\ndef broken(:\n    pass\n", 3, ["line 3", "def broken(:", "mend the line"]),
    ("import flowdeck\nimport no_such_package.part\n", 2,
     ["line 2", "no_such_package", "install what holds it for", "no_such_package.py beside the flow file"]),
    ("import sys\nsys.exit(3)\n", 2, ["line 2", 'if __name__ == "__main__":']),
    ("\n\nprint(undefined_name)\n", 3, ["line 3", "NameError", "undefined_name"]),
    ("from flowdeck import flow\n@flow(schedule='61 * * * *')\ndef etl(): ...\n", 2,
     ["line 2", "61 * * * *", "minute"]),
    ("x = 'caf\udce9'\n", None, ["utf-8"]),
])
def test_mistakes_name_file_line_and_remedy(write, tmp_path, text, line, words):
    """What is wrong, where, and what to do; the traceback is the user's, not ours."""
    path = str(tmp_path / "etl.py")
    with open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    error = broken(path)
    assert error.path == path
    assert line is None or error.line == line
    for word in [path, *words]:
        assert word.lower() in str(error).lower()
    assert "\n" not in str(error)
    assert error.traceback is not None
    assert "loader.py" not in error.traceback
    assert "importlib" not in error.traceback


def test_a_mistake_in_a_module_beside_names_that_module(write):
    """The deepest line of the user's own, and both files in the traceback."""
    helper = write("beside_bad.py", "\nraise ValueError('no config')\n")
    path = write("etl.py", "from flowdeck import flow\nimport beside_bad\n")
    error = broken(path)
    assert f"{helper}, line 2: ValueError: no config" in str(error)
    assert path in error.traceback
    assert helper in error.traceback


def test_a_failed_import_leaves_no_half_module(write):
    """The next load begins anew."""
    path = write("etl.py", "raise RuntimeError\n")
    before = set(sys.modules)
    broken(path)
    assert {name for name in set(sys.modules) - before if name.startswith("flow_file_")} == set()
    write("etl.py", GOOD)
    assert list(load_flow_file(path).flows) == ["etl"]


def test_two_flows_of_one_name_in_one_file_are_refused(write):
    """One of them would be lost in silence; the same flow under two variables is fine."""
    error = broken(write("etl.py", """
        from flowdeck import flow
        @flow(name="a")
        def one(): ...
        @flow(name="a")
        def two(): ...
    """))
    assert "second flow is named 'a'" in str(error)
    assert list(load_flow_file(write("alias.py", GOOD + "\nother = etl\n")).flows) == ["etl"]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("nope", GOOD, ["no flow 'nope'", "etl"]),
    (None, "import flowdeck\n", ["holds no flow", "@flow"]),
    (None, GOOD + "\n@flow\ndef second(): ...\n", ["2 flows", "etl, second", ":etl"]),
])
def test_a_flow_that_cannot_be_chosen_lists_what_there_is(write, name, text, words):
    """Never a guess between several."""
    with pytest.raises(BrokenFlowFile) as caught:
        find_flow(write("etl.py", text), name)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_offers_its_neighbour(write):
    """A typing mistake is answered with the nearest name."""
    path = write("etl.py", GOOD)
    assert "did you mean 'etl.py'?" in str(broken(path.replace("etl", "elt")))
    with pytest.raises(BrokenFlowFile, match="no such file or folder"):
        find_flow_files([path + "x"])


def test_folders_are_searched_for_what_looks_like_a_flow_file(write, tmp_path):
    """Hidden, underscored, cached and installed files are left out; a named file always counts."""
    wanted = [write("a.py", GOOD), write("deep/er/b.py", "import flowdeck as fd\n@fd.flow\ndef b(): ...\n"),
              write("c.py", "from flowdeck import Flow\nwith Flow('x'): ...\n")]
    for name in (".hidden.py", "_private.py", "__pycache__/x.py", ".git/x.py", "venv/x.py", "notes.txt",
                 "node_modules/x.py", "own_env/x.py"):
        write(name, GOOD)
    write("own_env/pyvenv.cfg", "")
    plain = write("plain.py", "import os\n# flow of things\n")
    write("tasks.py", "from flowdeck import task\n")
    assert sorted(find_flow_files([tmp_path])) == sorted(wanted)
    assert find_flow_files([plain, tmp_path, plain]).count(plain) == 1
    assert not looks_like_flow_file(str(tmp_path))
