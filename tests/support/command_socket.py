"""A `memberscope` for shell scripts that is forked from a process which has imported it.

A job of CI runs many commands, and importing the package takes longer than most of them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from commands import run_command

# Asks with arguments, folder and environment, then prints and exits as the command did
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as asked:
    words = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}}
    with asked.makefile("rw") as stream:
        stream.write(json.dumps(words) + "\\n")
        stream.flush()
        code, stdout, stderr = json.loads(stream.readline())
sys.stdout.write(stdout)
sys.stderr.write(stderr)
sys.exit(code)
"""


class _Asked(StreamRequestHandler):
    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        done = run_command(*asked["argv"], cwd=Path(asked["cwd"]), **asked["environment"])
        answer = json.dumps([done.returncode, done.stdout, done.stderr])
        self.wfile.write(f"{answer}\n".encode())


@contextmanager
def serve_command(file: Path) -> Iterator[None]:
    """Put the command in `file` for as long as the block runs."""
    with ThreadingTCPServer(("127.0.0.1", 0), _Asked) as server:
        file.write_text(CLIENT.format(python=sys.executable, port=server.server_address[1]))
        os.chmod(file, 0o755)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
