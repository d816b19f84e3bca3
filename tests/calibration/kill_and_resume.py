"""A run that is killed 20 times while it writes, and goes on each time, against one that nobody disturbed.

run: python tests/calibration/kill_and_resume.py [--kills 20] [--replications 1500000] [--folder DIR]
SIGKILL to the whole process group, at a moment when a part is being written; the same command goes on. Prints what each run left,
and says whether all replicates and the summary are equal bit for bit. A short version is in tests/unit/test_run_faults.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import killing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--replications", type=int, default=1_500_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="nestlab-kills-"))
    study = folder / "long.toml"
    study.write_text(killing.STUDY.format(replications=asked.replications))
    began = time.monotonic()
    subprocess.run(
        killing.command("run", study, "--out", folder / "whole", "--jobs", 2), check=True, capture_output=True
    )
    print(
        f"uninterrupted: {time.monotonic() - began:.1f} s, {len(killing.names(folder / 'whole/replicates')[0])} parts"
    )
    words = ("run", study, "--out", folder / "killed", "--jobs", 2)
    new = 4 * asked.replications // (asked.kills + 8)
    found = []
    for k in range(asked.kills):
        found.append(killing.kill_while_writing(words, folder / "killed", new=new))
        one = found[-1]
        print(
            f"kill {k + 1}: after {one.seconds:.1f} s, {one.parts} parts, half-written file: {one.writing}", flush=True
        )
    left = sum(not one.finished for one in found)
    subprocess.run(killing.command(*words), check=True, capture_output=True)
    killing.assert_equal(folder / "whole", folder / "killed")
    print(f"{left} kills, {sum(one.writing for one in found)} while a part was half written: equal bit for bit")


if __name__ == "__main__":
    main()
