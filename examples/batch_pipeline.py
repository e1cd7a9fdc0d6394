"""Upscale a folder from a script: run gdq as a program, follow its JSON lines, act on what failed.

    python examples/batch_pipeline.py photos/ upscaled/ -x 2

Run it again and finished pictures are skipped, so an interrupted run goes on where it stopped. Other options are those
of ``gdq upscale``.
"""

import argparse
import json
import subprocess
import sys


def main(source: str, target: str, *options: str) -> int:
    command = [sys.executable, "-m", "gdq_cli", "upscale", source, "-r", "-o", target, "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # errors and notes go to stderr
        assert process.stdout is not None
        for line in process.stdout:  # a line comes as soon as its picture is done
            facts = json.loads(line)
            if "summary" in facts:
                summary = facts["summary"]
                print(f"{summary['ok']} upscaled, {summary['skipped']} skipped, {summary['failed']} failed")
            elif facts["status"] == "ok":
                height, width = facts["out_size"]
                speed = f"{facts['fab']:.2f} bits, {facts['seconds']['total']:.2f} s"
                print(f"{facts['output']}: {width}x{height}, {speed}")
            elif facts["status"] == "failed":
                print(f"failed: {facts['error']}")
    return process.returncode  # 0 all done, 1 some failed, 2 to 5 nothing could be done, 130 interrupted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder of pictures of your own")
    parser.add_argument("target", help="the folder for the large ones, made if need be")
    folders, options = parser.parse_known_args()  # what is not known here is for gdq upscale
    sys.exit(main(folders.source, folders.target, *options))
