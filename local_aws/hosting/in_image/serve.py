"""The program of a model container, run by the image's own Python: what the image's model server is on AWS.

Standard library only, besides what the image holds. Modules of the model's author come first: nothing of this folder
stays on their path.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

from model_server.server import Server

del sys.path[0]  # this folder


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True, help="the Unix socket to listen on")
    parser.add_argument("--model", required=True, help="the folder of the unpacked model")
    parser.add_argument("--memory-mb", type=int, help="the most memory to use")
    arguments = parser.parse_args()
    if arguments.memory_mb:
        import resource

        size = arguments.memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    # Listening comes first: requests wait for the model to be loaded.
    server = Server(arguments.socket)
    Path(f"{arguments.socket}.pid").write_text(str(os.getpid()))
    from model_server.application import load

    application = load(arguments.model)
    gc.freeze()  # what is loaded stays: the garbage collector need not look through it while requests wait
    server.serve(application)
    return 0


if __name__ == "__main__":
    sys.exit(main())
