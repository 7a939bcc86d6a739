"""Runs one job's program and sees to it that nothing of it is left; a process of its own between server and job.

Started by `process.py` as a script, without site-packages: standard library only, 20 ms to be there.

Standard input: one line, the job (JSON: argv, environment, folder, opt_ml, hosts, seconds, grace), then "stop" lines.
When it ends, because the server closed it or died, everything is killed at once. Standard output and error are the
job's. The file descriptor named by the first argument gets lines of JSON: {"pid": ...}, then how it ended:
{"exit_code": ..., "signal": ..., "ended_by": "itself" | "stop" | "time" | "server"}, or {"error": ...} when it could
not be started.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import sys
import time

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000


def main() -> None:
    status = int(sys.argv[1])
    os.set_inheritable(status, False)
    if LINUX:
        # Descendants that outlive their parents become ours, whatever session or group they went to.
        _libc_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)

    commands = b""
    while b"\n" not in commands:
        more = os.read(0, 65536)
        if not more:  # the server thought better of it
            return
        commands += more
    line, _, commands = commands.partition(b"\n")
    if line == b"stop":  # it came before the job: nothing is started
        _say(status, {"exit_code": None, "signal": None, "ended_by": "stop"})
        return
    job = json.loads(line)
    pid, error = _start(job)
    if error is not None:
        _say(status, {"error": error})
        return
    _say(status, {"pid": pid})
    _say(status, _watch(pid, job, woken, commands))


def _say(status: int, message: dict) -> None:
    with contextlib.suppress(BrokenPipeError):  # the server is gone: nobody listens, the work is done all the same
        os.write(status, json.dumps(message).encode() + b"\n")


def _start(job: dict) -> tuple[int, str | None]:
    """Fork and execute; why that was not possible, if so."""
    reading, writing = os.pipe()
    launcher = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            if job["opt_ml"]:
                try:
                    enter_mount_namespace(job["opt_ml"], job["hosts"])
                except OSError as error:
                    os.write(writing, f"no mount namespace for /opt/ml ({error.strerror})".encode())
                    os._exit(127)
                if not job["network"]:
                    _libc_call("unshare", CLONE_NEWNET)
            if LINUX:
                _libc_call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
                if os.getppid() != launcher:
                    os._exit(1)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, a program expects the default
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(job["folder"])
            os.execvpe(job["argv"][0], job["argv"], job["environment"])  # noqa: S606
        except FileNotFoundError:
            os.write(writing, f"{job['argv'][0]}: no such program in the image".encode())
        except OSError as error:
            os.write(writing, f"{job['argv'][0]}: {error.strerror}".encode())
        except ValueError as error:  # a null character, half of a surrogate pair, an empty name
            fault = f"{job['argv'][0]!r}: an argument or environment variable cannot be given to a program: {error}"
            os.write(writing, fault.encode(errors="backslashreplace"))
        finally:
            os._exit(127)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        fault = stream.read().decode()
    if fault:
        os.waitpid(pid, 0)
        return pid, fault
    return pid, None


def _watch(pid: int, job: dict, woken: int, commands: bytes) -> dict:
    """Wait for the program's end, the server's commands and the time limit; then end whatever it has left behind."""
    ended_by = "itself"
    deadline = time.monotonic() + job["seconds"]
    stop_wanted = bool(commands)
    while True:
        if stop_wanted and ended_by == "itself":
            ended_by = "stop"
            deadline = _terminate(pid, job["grace"])
        left = deadline - time.monotonic()
        if left <= 0:
            if ended_by == "itself":
                ended_by = "time"
                deadline = _terminate(pid, job["grace"])
                continue
            _signal_group(pid, signal.SIGKILL)
            left = 1.0
        ready, _, _ = select.select([0, woken], [], [], min(left, 86400.0))
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if 0 in ready:
            command = os.read(0, 4096)
            if not command:
                ended_by = "server"
                _signal_group(pid, signal.SIGKILL)
                status = os.waitpid(pid, 0)[1]
                break
            stop_wanted = True
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
    _sweep(pid)
    code = os.waitstatus_to_exitcode(status)
    return {"exit_code": code if code >= 0 else None, "signal": -code if code < 0 else None, "ended_by": ended_by}


def _terminate(pid: int, grace: float) -> float:
    """Ask the program to end; the time (monotonic, seconds) at which it is killed."""
    _signal_group(pid, signal.SIGTERM)
    return time.monotonic() + grace


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(pid, number)


def _sweep(pid: int) -> None:
    """Kill what the program left running: its group, then every descendant that came to us."""
    _signal_group(pid, signal.SIGKILL)
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _children() -> list[int]:
    me = os.getpid()
    children = []
    for entry in os.listdir("/proc") if LINUX else []:  # noqa: PTH208 (pathlib takes longer to import than to use)
        with contextlib.suppress(OSError):
            if entry.isdigit():
                with open(f"/proc/{entry}/stat") as stream:  # noqa: PTH123
                    if int(stream.read().rpartition(")")[2].split()[1]) == me:
                        children.append(int(entry))
    return children


def enter_mount_namespace(ml: str, hosts: str) -> None:
    """Give this process and what it starts an /opt/ml and an /etc/hosts of their own; nobody else sees them.

    As root a mount namespace is enough; anybody else gets it inside a user namespace, in which the process keeps its
    own user id (capabilities are gone with the next exec).

    Args:
        ml: the folder to be seen as /opt/ml.
        hosts: the file to be seen as /etc/hosts.

    Raises:
        OSError: the system does not allow it.
    """
    try:
        _libc_call("unshare", CLONE_NEWNS)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        _libc_call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    if not os.path.isdir("/opt/ml"):  # noqa: PTH112
        _put_ml_into_opt()
    _mount(ml, "/opt/ml", None, MS_BIND | MS_REC)
    _mount(hosts, "/etc/hosts", None, MS_BIND)


def _put_ml_into_opt() -> None:
    """Cover /opt with a file system that has its entries, bound, and a folder ml; the real one is not touched."""
    before = os.open("/opt", os.O_RDONLY | os.O_DIRECTORY)
    entries = os.listdir(before)  # noqa: PTH208
    _mount("tmpfs", "/opt", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for entry in entries:
        source, target = f"/proc/self/fd/{before}/{entry}", f"/opt/{entry}"
        if os.path.islink(source):  # noqa: PTH114
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
            continue
        if os.path.isdir(source):  # noqa: PTH112
            os.mkdir(target)  # noqa: PTH102
        else:
            _write(target, "")
        _mount(source, target, None, MS_BIND | MS_REC)
    os.mkdir("/opt/ml")  # noqa: PTH102
    os.close(before)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    _libc_call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def _libc_call(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        number = ctypes.get_errno()
        names = " ".join(str(argument) for argument in arguments if isinstance(argument, bytes))
        raise OSError(number, f"{function} {names}: {errno.errorcode.get(number, number)}".strip())


def _write(path: str, text: str) -> None:
    with open(path, "w") as stream:  # noqa: PTH123
        stream.write(text)


if __name__ == "__main__":
    main()
