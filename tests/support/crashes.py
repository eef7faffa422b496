"""Operations on an index that are killed on the way: asking the nursery, where they are born and die."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OPERATIONS = ("build", "add", "remove", "compact", "save")
"""``compact`` removes so much that the graph is written anew; ``save`` puts another index over this one."""

SHARD_OPERATIONS = ("shards", "long build", "shard update")
"""A sharded index is built; one index is built by way of shards; a sharded index is updated. All are to be repeated
after they were killed."""

# Counts what changes files, below Python, SQLite and FAISS alike; the n-th call never returns. Of a write, the first
# half is made.
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
static long calls, fatal;
void shim_arm(long n) { calls = 0; fatal = n; }
long shim_calls(void) { return calls; }
static int due(void) { return ++calls == fatal; }
static void die(void) { kill(getpid(), SIGKILL); }
#define REAL(name) __typeof__(&name) real = dlsym(RTLD_NEXT, #name)
#define SIMPLE(type, name, sig, args) type name sig { REAL(name); if (due()) die(); return real args; }
ssize_t write(int fd, const void *b, size_t n)
{ REAL(write); if (due()) { real(fd, b, n / 2); die(); } return real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o)
{ REAL(pwrite); if (due()) { real(fd, b, n / 2, o); die(); } return real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o)
{ REAL(pwrite64); if (due()) { real(fd, b, n / 2, o); die(); } return real(fd, b, n, o); }
SIMPLE(int, fsync, (int fd), (fd))
SIMPLE(int, fdatasync, (int fd), (fd))
int rename(const char *a, const char *b) { REAL(rename); if (due()) die(); return real(a, b); }
int renameat(int i, const char *a, int j, const char *b) { REAL(renameat); if (due()) die(); return real(i, a, j, b); }
SIMPLE(int, mkdir, (const char *p, mode_t m), (p, m))
SIMPLE(int, unlink, (const char *p), (p))
SIMPLE(int, unlinkat, (int d, const char *p, int f), (d, p, f))
SIMPLE(int, rmdir, (const char *p), (p))
SIMPLE(int, ftruncate, (int fd, off_t n), (fd, n))
SIMPLE(int, ftruncate64, (int fd, off64_t n), (fd, n))
"""


def compile_shim(folder: Path) -> Path | None:
    """Return the library that counts system calls, ``None`` where there is no C compiler."""
    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "shim.so"
    (folder / "shim.c").write_text(_SHIM)
    command = ["cc", "-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-o", str(library), str(folder / "shim.c")]
    done = subprocess.run([*command, "-ldl"], capture_output=True, check=False)
    return library if done.returncode == 0 else None


class Nursery:
    """A process that makes indexes in its folder, and children that die over them.

    :param folder: scratch folder.
    :param shim: what :func:`compile_shim` gave; ``None`` counts the steps that Python sees.
    """

    def __init__(self, folder: Path, *, shim: Path | None = None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("LD_PRELOAD", None)
        if shim is not None:
            environment["LD_PRELOAD"] = str(shim)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py")), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **request: Any) -> Any:
        """Return the answer to one request: the name of a function below, and its arguments."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery ended with code {self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def points(total: int, wanted: int, seed: int) -> list[int]:
    """Steps to be killed at: all of them, or an even spread with some chance in it, first and last included."""
    if total <= wanted:
        return list(range(1, total + 1))
    chance = random.Random(seed)
    width = total / wanted
    spread = {1, total, *(int(number * width + chance.random() * width) + 1 for number in range(wanted))}
    return sorted(step for step in spread if step <= total)
