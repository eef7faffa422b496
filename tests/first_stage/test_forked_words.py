"""Words are indexed without the lock that forked processes share: one killed with it must not stop the others."""

from __future__ import annotations

import subprocess
import sys


def test_indexing_words_takes_no_lock_of_tqdm():
    """The lock is held, as by a process that was killed with it; an index with words is built all the same."""
    code = (
        "from tqdm import tqdm\n"
        "from biorerank_plugins.first_stage.lexical import LexicalIndex\n"
        "tqdm.get_lock().acquire()\n"
        "import threading\n"
        "built = []\n"
        "work = threading.Thread(target=lambda: built.append(LexicalIndex.build(enumerate(['a word', 'two words']))), "
        "daemon=True)\n"
        "work.start(); work.join(60)\n"
        "print(len(built), flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "1", done.stderr
