"""Run command lines of memberscope, each in a process forked from this one, which has imported it.

Reads one JSON object a line (argv, cwd, environment, a script to run in place of the command, and
the files for standard input, output and error) and answers each with the exit code. A command runs as `python -c "…; run()"` does: with a
process, a working directory and an environment of its own, and the working directory first on the
path; only the imports are made once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback


def run_command(request: dict) -> None:
    """Become the command: working directory, environment, arguments and streams are its own."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(request[name], flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["-c", *request["argv"]]
    sys.path.insert(0, "")
    code: object = 0
    try:
        if request["script"] is not None:
            exec(request["script"], {"__name__": "__main__"})
        else:
            from memberscope.cli.main import run

            run()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120
    os._exit(int(code or 0))


def import_everything(modules: list[str]) -> None:
    """Import what commands import, so that none of them has to."""
    import importlib

    for name in modules:
        importlib.import_module(name)


def main() -> None:
    """Serve until the other side closes."""
    sys.path.pop(0)  # the folder of this script, which a command does not have there
    import_everything(sys.argv[1:])
    requests = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(requests.readline, ""):
        child = os.fork()
        if child == 0:
            run_command(json.loads(line))
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
