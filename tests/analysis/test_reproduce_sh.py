"""reproduce.sh, without installing anything: the interpreter in .venv is a stand-in that only notes pip's calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "dirname", "readlink", "cat", "rm", "tee", "awk", "tail")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What the script needs of the project, in a folder with a space in its name."""
    root = tmp_path / "a b" / "redvtp"
    shutil.copytree(REPOSITORY / "analysis", root / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("reproduce.sh", "pyproject.toml", "constraints.txt", "constraints-lmms.txt"):
        shutil.copy(REPOSITORY / name, root)
    return root


@pytest.fixture
def path(tmp_path) -> Path:
    """A PATH with the usual tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def python(folder: Path, name: str = "python3", version: str | None = None) -> Path:
    """This interpreter under another name; with `version`, one that says it is that version and too old."""
    if version is None:
        return script(folder / name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    old = f'case "$2" in *sys.exit*) exit 1 ;; *) echo {version} ;; esac'
    return script(folder / name, f"#!/bin/sh\n{old}\n")


def call(command: Path, *arguments: str, path: Path | None = None, cwd: Path | None = None):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PATH"] = str(path)
    return subprocess.run(
        [str(command), *arguments], env=environment, cwd=cwd, capture_output=True, text=True
    )


def test_help_and_list_install_nothing(checkout, path, tmp_path):
    python(path)
    link = tmp_path / "link.sh"
    link.symlink_to(os.path.relpath(checkout / "reproduce.sh", tmp_path))
    for command, argument, text in (
        (checkout / "reproduce.sh", "--help", "./reproduce.sh test [ARGUMENTS]"),
        (link, "--list", "profiles (--profile NAME):"),
    ):
        done = call(command, argument, path=path, cwd=tmp_path)
        assert done.returncode == 0 and text in done.stdout, done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({}, "none"),
        ({"python3": "3.9.2"}, "python3 is 3.9.2"),
        ({"python3.12": "3.9.2", "python": "2.7.18"}, "python3.12 is 3.9.2, python is 2.7.18"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["test"]], ids=" ".join)
def test_an_old_python_is_named_in_one_line(checkout, path, present, found, arguments):
    for name, version in present.items():
        python(path, name, version)
    done = call(checkout / "reproduce.sh", *arguments, path=path)
    assert done.returncode == 1
    assert done.stderr == f"reproduce.sh: Python 3.11 or newer is needed; found: {found}\n"


def test_here_takes_the_environments_own_python(checkout, path):
    python(path, "python3.13")
    python(path, "python", "3.9.2")
    done = call(checkout / "reproduce.sh", "--here", path=path)
    assert done.stderr == "reproduce.sh: Python 3.11 or newer is needed; found: python is 3.9.2\n"


def test_a_python_that_does_not_start_is_passed_over(checkout, path):
    script(path / "python3.13", "#!/bin/sh\necho no such version >&2\nexit 127\n")
    python(path)
    assert call(checkout / "reproduce.sh", "--list", path=path).returncode == 0


def test_here_names_what_the_environment_lacks(checkout, path):
    blocked = "import importlib.util as u; real = u.find_spec; "
    blocked += "u.find_spec = lambda name: None if name in ('papermill', 'seaborn') else real(name); "
    blocked += "exec(__import__('sys').stdin.read())"
    run = f'exec "{sys.executable}" -c "{blocked}"'
    script(path / "python", f'#!/bin/sh\n[ "$1" = - ] && {run}\nexec "{sys.executable}" "$@"\n')
    done = call(checkout / "reproduce.sh", "--here", path=path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "lacks seaborn, papermill: python -m pip install -c constraints.txt -e '.[notebooks,dev]'" in done.stderr


@pytest.fixture
def environment(checkout) -> Path:
    """A .venv whose Python hands pip's arguments to pip.log and fails where `fail` exists."""
    return stand_in(checkout / ".venv")


def stand_in(folder: Path) -> Path:
    pip = f'echo "$@" >>"{folder}/pip.log"; echo "Installing collected packages: a, b"; [ ! -e "{folder}/fail" ]'
    text = f'#!/bin/bash\ncase "$*" in "-m pip install"*) {pip}; exit ;; esac\nexec "{sys.executable}" "$@"\n'
    script(folder / "bin" / "python", text)
    return folder


def installs(environment: Path) -> int:
    log = environment / "pip.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def reproduce(checkout: Path):
    """A call that installs, then stops at once for want of that notebook."""
    return call(checkout / "reproduce.sh", "--only", "nothing")


def test_installs_once_with_the_constraints(checkout, environment):
    first, second = reproduce(checkout), reproduce(checkout)
    assert "installing the tested versions into .venv, once" in first.stdout
    assert "  installing 2 packages" in first.stdout
    assert "installing" not in second.stdout and installs(environment) == 1
    assert "-c constraints.txt -e .[notebooks,dev]" in (environment / "pip.log").read_text()
    assert first.returncode == 2 and "unknown notebook 'nothing'" in first.stderr


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_installs_again_when_what_to_install_has_changed(checkout, environment, name):
    reproduce(checkout)
    with (checkout / name).open("a") as file:
        file.write("\n# changed\n")
    reproduce(checkout)
    assert installs(environment) == 2


def test_an_installation_that_failed_is_told_and_done_again(checkout, environment):
    (environment / "fail").touch()
    done = reproduce(checkout)
    assert done.returncode == 1
    assert "reproduce.sh: the installation failed; all of it is in .venv/install.log" in done.stderr
    (environment / "fail").unlink()
    reproduce(checkout)
    assert installs(environment) == 2


def test_an_environment_with_an_old_python_is_left_alone(checkout, path):
    python(checkout / ".venv" / "bin", "python", "3.9.2")
    python(path)
    done = call(checkout / "reproduce.sh", path=path)
    assert done.returncode == 1
    assert done.stderr.startswith("reproduce.sh: .venv holds Python 3.9.2, but 3.11 or newer is needed")


def test_test_hands_its_arguments_to_pytest(checkout, environment):
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_two.py").write_text("def test_one(): pass\ndef test_other(): assert 0\n")
    done = call(checkout / "reproduce.sh", "test", "-q", "-k", "one or absent")
    assert done.returncode == 0 and "1 passed, 1 deselected" in done.stdout, done.stdout + done.stderr


def test_the_plug_ins_tests_have_an_environment_of_their_own(checkout, environment):
    (checkout / "tests" / "lmms").mkdir(parents=True)
    (checkout / "tests" / "lmms" / "test_one.py").write_text("def test_one(): pass\ndef test_other(): assert 0\n")
    own = stand_in(checkout / ".venv-lmms")
    done = call(checkout / "reproduce.sh", "test", "--lmms", "-q", "-k", "one and not other")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    assert installs(environment) == 0 and installs(own) == 2
    first, second = (own / "pip.log").read_text().splitlines()
    assert "-c constraints.txt -e ." in first and "accelerate==" in first and "lmms-eval" not in first
    assert "--no-deps lmms-eval==" in second
    again = call(checkout / "reproduce.sh", "test", "--lmms", "-q")
    assert again.returncode == 1 and installs(own) == 2  # a test that fails is no skipped one
    assert call(checkout / "reproduce.sh", "test", "-q", "--co").returncode == 5  # the base run has none of them


def test_an_environment_that_cannot_be_installed_has_an_exit_code_of_its_own(checkout):
    own = stand_in(checkout / ".venv-lmms")
    (own / "fail").touch()
    done = call(checkout / "reproduce.sh", "test", "--lmms")
    assert done.returncode == 69 and "the installation failed; all of it is in .venv-lmms/install.log" in done.stderr


def test_lmms_goes_with_test(checkout, path):
    python(path)
    done = call(checkout / "reproduce.sh", "--lmms", path=path)
    assert done.returncode == 1 and "--lmms goes with test" in done.stderr


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (69, 0)])
def test_continuous_integration_skips_what_cannot_be_installed(tmp_path, code, expected):
    shutil.copytree(REPOSITORY / ".ci", tmp_path / ".ci")
    script(tmp_path / "reproduce.sh", f'#!/bin/sh\ncase "$*" in *--lmms*) exit {code} ;; esac\n')
    script(tmp_path / ".venv" / "bin" / "python", "#!/bin/sh\n")
    done = call(tmp_path / ".ci" / "run")
    assert done.returncode == expected and ("skipped: " in done.stdout) is (code == 69)
