"""Every command in README, CONTRIBUTING and docs/ is run as it is written, or is listed here with the reason why not.

Blocks of ``sh`` and the commands of README's table are run in a shell beside a demo. Commands within sentences are held
against the command line, the Makefile and the compose file.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest
import yaml

from smsapi.cli import cli
from tests.support.command import dev, environment

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

# What is not run here, by how the line begins, and why.
NOT_RUN = {
    "make run": "it is `smsapi dev`, beside which the others are run; tests/test_makefile.py plans it",
    "make test": "it is what runs this",
    "make wheel": "below, without a virtual environment of its own",
    "pipx install": "it fetches the dependencies",
    "docker-compose": "it needs an engine; its services and commands are compared below",
    "cp deploy/": "it is for docker-compose; tests/test_image.py reads the file",
    'echo "SMSAPI_JWT_SECRET': "it is for docker-compose",
    "/opt/smsapi": "it fetches the dependencies, on a server",
    "python3 -m venv /opt": "it is for a server, as root",
    "useradd": "it is for a server, as root",
    "install -": "it is for a server, as root; tests/test_deploy_server.py reads the files",
    "systemctl": "it is for a server, as root; tests/test_deploy_server.py reads the units",
    "su smsapi": "it is for a server, as root; tests/test_deploy_server.py sources the file",
    "smsapi worker": "it runs until it is stopped: tests/test_worker.py",
    "SMSAPI_DISPATCH_THREADS=0 smsapi serve": "it runs until it is stopped: tests/test_serve.py",
}
# Commands of other programs that stand in sentences begin otherwise.
STARTS = ("smsapi ", "make ", "docker-compose ", "api ", "curl ")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def block_lines(page):
    """Return the lines of the page's blocks of shell commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def row_commands(page):
    """Return the commands of the page's tables that are for the shell beside a demo."""
    rows = "\n".join(line for line in text_of(page).splitlines() if line.startswith("| "))
    return [
        code for code in re.findall(r"`([^`]+)`", rows) if code.startswith(("api ", "smsapi webhooks", "smsapi send"))
    ]


def sentence_commands(page):
    """Return the commands in the page's sentences, without what stands in blocks; some are over two lines."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose) if code.startswith(STARTS)]


def is_run(line):
    return not any(line.startswith(start) for start in NOT_RUN)


def run(lines, shown, directory):
    """Run the lines one after the other in one shell; return the exit code, the output and the errors of each."""
    # In braces and not in a subshell: what a line sets is there for the next.
    script = [f"{{ {line}\n}} >{place}.out 2>{place}.err; echo $? >{place}.code" for place, line in enumerate(lines)]
    # What waits for events gets some until it ends.
    script.append('while [ -n "$(jobs -r)" ]; do smsapi send --to +14155550123 --text More; done')
    written = "\n".join(script).replace("smsk_live_…", shown["key"])
    written = written.replace("http://127.0.0.1:8000", shown["url"]).replace(
        "http://127.0.0.1:8099", shown["simulator"]
    )
    environ = environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", SMSAPI_URL=shown["url"], SMSAPI_TOKEN=shown["key"]
    )
    subprocess.run(["bash", "-c", written], cwd=directory, env=environ, capture_output=True, timeout=240, check=True)
    for place, line in enumerate(lines):
        code, out, err = ((directory / f"{place}.{kind}").read_text() for kind in ("code", "out", "err"))
        yield line, int(code), out, err


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, block_lines(page)))])
def test_every_command_of_a_page_works_as_it_is_written_beside_a_demo(page, tmp_path):
    lines = [line for line in block_lines(page) if is_run(line)]
    at_table = next((place for place, line in enumerate(lines, 1) if line.startswith("ID=")), len(lines))
    lines[at_table:at_table] = row_commands(page) if page == "README.md" else []
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path / "var"), "--simulator-port", "0") as (_, shown):
        done = list(run(lines, shown, tmp_path))
    for line, code, out, err in done:
        assert code == 0, f"{line}\n{out}\n{err}"
        assert '"/problems/' not in out, f"{line}\n{out}"
        if "webhooks listen" in line:
            assert out.count("  signature ok  ") == 3
    # Each of these lines printed something: nothing was swallowed.
    assert [line for line, _, out, _ in done if line.startswith(("api ", "smsapi send", "curl")) and not out] == []


def test_readme_s_table_has_a_command_in_every_row():
    table = text_of("README.md").partition("| you want | you do |\n")[2].partition("\n\n")[0]
    rows = table.splitlines()[1:]
    assert len(rows) >= 10
    assert [row for row in rows if not re.search(r"`(api|smsapi) ", row)] == []


def test_what_is_not_run_is_there():
    lines = [line for page in PAGES for line in block_lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


def check_smsapi(words, where):
    """Hold a command against the command line: its words, and the names of its options."""
    command, path = cli, []
    for word in words:
        if word == "-":
            continue
        if word.startswith("-"):
            if isinstance(command, click.Group):
                continue
            names = {name for option in command.params for name in option.opts} | {"--help", "--version"}
            assert word.partition("=")[0] in names, f"{where}: {' '.join(path)} has no {word}"
        elif isinstance(command, click.Group):
            for each in word.split("|"):
                found = command.get_command(click.Context(command), each)
                assert found is not None, f"{where}: smsapi {' '.join([*path, each])}"
            command, path = found, [*path, word]


def words_of(code):
    try:
        words = shlex.split(code.replace("…", "x"), comments=True)
    except ValueError:
        words = code.split()
    # What runs as another user is one word.
    return shlex.split(words[-1].replace("/opt/smsapi/bin/", "")) if words[0] == "su" else words


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_a_sentence_or_a_block_that_is_not_run_is_one_that_there_is(page):
    for code in (*sentence_commands(page), *(line for line in block_lines(page) if not is_run(line))):
        words = words_of(code)
        if words[0] in {"smsapi", "docker-compose", "set", "SMSAPI_DISPATCH_THREADS=0"} and "smsapi" in words:
            check_smsapi(words[words.index("smsapi") + 1 :], page)
        if words[0] == "make":
            assert words[1] in TARGETS, code
        if words[0] == "docker-compose" and len(words) > 1:
            scaled = {word.partition("=")[0] for word in words if re.fullmatch(r"\w+=\d+", word)}
            assert ({words[2]} if words[1] == "exec" else scaled) <= COMPOSE["services"].keys(), code
        for name in re.findall(r"deploy/[\w.*-]+", code):
            assert list(ROOT.glob(name)), code


def test_the_wheel_that_make_wheel_builds_has_the_command_and_its_files(tmp_path):
    # The tests may have been started by make, which would be asked to go on as that one was.
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    planned = subprocess.run(
        ["make", "--dry-run", "wheel"], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    # What comes before it makes the virtual environment.
    words = shlex.split(planned.stdout.splitlines()[-1])
    assert words[:4] == [".venv/bin/python", "-m", "pip", "wheel"]
    assert words[-2:] == ["dist", "."]
    subprocess.run(
        [sys.executable, *words[1:-2], str(tmp_path), str(ROOT)], cwd=tmp_path, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("smsapi-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entries,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "smsapi = smsapi.cli:main" in entries
    assert {"smsapi/web/docs_page.html", "smsapi/web/static/start.js", "smsapi/migrations/env.py"} <= names
    version = tomllib.loads(text_of("pyproject.toml"))["project"].get("version")
    assert version is None or f"smsapi-{version}-" in wheel.name
