"""What the scripts that try a running server share: the tools they need, the program, and the server itself."""

import contextlib
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
START_SECONDS = 60
# The settings of whoever runs this would change what is tested.
LEFT_OUT = ("TENANTRY_", "MULTITENANT_", "OTEL_", "AWS_", "APP_", "TENANT_", "LOG_LEVEL", "RUST_LOG")


class Failed(Exception):
    """Something that ends what a script does; says what."""


def begin(description, seconds, *needs):
    """Prints `description` if help is asked for; else has ./scripts/test-tools install what `needs` names and goes on under its
    Python, for so many seconds at most. Gives the folder of the tools."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(description.strip())
        sys.exit(0)
    tools = pathlib.Path(subprocess.check_output([REPOSITORY / "scripts/test-tools", *needs], text=True).strip())
    if pathlib.Path(sys.prefix) != tools.parent:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.execv(tools / "python", [str(tools / "python"), *sys.argv])

    # As an error does it: servers end with the script, and its folders are removed.
    def end(number, _):
        if number == signal.SIGALRM:
            print(f"not done in {seconds} s", file=sys.stderr)
        sys.exit(128 + number)

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    signal.alarm(seconds)
    return tools


def program():
    """The program to be tested: TENANTRY_PROGRAM, or one that is built."""
    if "TENANTRY_PROGRAM" not in os.environ:
        os.environ["TENANTRY_PROGRAM"] = subprocess.check_output([REPOSITORY / "scripts/test-program"], text=True).strip()
    return str(pathlib.Path(os.environ["TENANTRY_PROGRAM"]).resolve())


def environment(**more):
    """The environment of whoever runs this without what would change the program, and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    return {**kept, **more}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A server that runs until the block is left, and answers at `port`. What it says is in `log`, if that is named."""

    def __init__(self, argv, folder, port, variables=None, log=None, seconds=START_SECONDS):
        self.argv, self.folder, self.port, self.log, self.seconds = [str(part) for part in argv], folder, port, log, seconds
        self.variables = environment() if variables is None else variables
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        with open(self.log, "wb") if self.log else contextlib.nullcontext() as output:
            # A group of its own, as at a terminal: `cargo run` and the program that it runs.
            self.process = subprocess.Popen(
                self.argv, cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + self.seconds
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=2):
                    return self
            except (OSError, urllib.error.URLError) as error:
                ended = not self.is_running()
                if ended or time.monotonic() > deadline:
                    self.__exit__()
                    why = f"ended with {self.process.returncode}" if ended else f"does not answer within {self.seconds} s: {error}"
                    raise Failed("\n".join([f"{shlex.join(self.argv)} {why}", *self.last_lines()])) from None
            time.sleep(0.05)

    def __exit__(self, *_):
        for signaled in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signaled)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(START_SECONDS)
                break
        # `cargo run` may end before the program that it ran.
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                return
            time.sleep(0.1)

    def is_running(self):
        return self.process.poll() is None

    def last_lines(self, count=50):
        """The end of its log."""
        return pathlib.Path(self.log).read_text(errors="replace").splitlines()[-count:] if self.log else []


@contextlib.contextmanager
def configured(text, port=None, **variables):
    """A server with this configuration, in a temporary folder, at `port`, or at a free one that it is told by a variable."""
    with tempfile.TemporaryDirectory(prefix="tenantry-server-") as folder:
        home = pathlib.Path(folder)
        (home / "config.yaml").write_text(text)
        if port is None:
            port = free_port()
            variables["TENANTRY__SERVER__LISTEN"] = f"127.0.0.1:{port}"
        argv = [program(), "--config", "config.yaml", "serve"]
        with Server(argv, home, port, environment(**variables), home / "log") as server:
            yield server
