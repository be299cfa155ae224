"""Memory and time of a scan, as a curve: runs a command and samples its resident memory.

    python3 tests/peers/scan_memory.py [--every 0.5] [--csv curve.csv] -- consilium-site scan SLIDE --bundle B --out DIR

Prints the peak, the median and the last value in MiB, and the wall time. Nothing but the standard library; Linux.
"""

import argparse
import statistics
import subprocess
import sys
import time


def resident_mib(pid):
    """Resident memory of a process, MiB; None when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--csv", help="write seconds,resident_mib here")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = [word for word in arguments.command if word != "--"]
    if not command:
        parser.error("give a command after --")
    began = time.monotonic()
    process = subprocess.Popen(command)
    samples = []
    while process.poll() is None:
        resident = resident_mib(process.pid)
        if resident is not None:
            samples.append((time.monotonic() - began, resident))
        time.sleep(arguments.every)
    wall = time.monotonic() - began
    if arguments.csv:
        with open(arguments.csv, "w", encoding="ascii") as table:
            table.write("seconds,resident_mib\n")
            table.writelines(f"{at:.2f},{resident:.1f}\n" for at, resident in samples)
    values = [resident for _, resident in samples]
    if values:
        print(f"peak {max(values):.0f} MiB, median {statistics.median(values):.0f} MiB, last {values[-1]:.0f} MiB, "
              f"{wall:.1f} s, exit code {process.returncode}")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
