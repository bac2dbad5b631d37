"""Looks the installed packages up among published vulnerabilities, with pip-audit. `make audit` runs it.

Reads `name==version` lines. Fails on a known hole that is not in `IGNORED`. Where no advisory service answers, it says
so and does not fail: tests must run on a machine without a network, too. pip-audit itself would say "No known
vulnerabilities found" where it skipped every package.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

IGNORED: dict[str, str] = {}
"""By the id of a vulnerability, why it does not concern this project."""

SERVICES = ("pypi", "osv")
SECONDS = 240


def main() -> int:
    """Audit what stands on stdin; return the exit code."""
    lines = [line.strip() for line in sys.stdin if "==" in line]
    requirements = sorted({line.partition("+")[0] for line in lines})  # an index knows no local versions, as 2.14.1+cpu
    if not requirements:
        sys.exit("there is nothing to audit on stdin")
    for id_, reason in IGNORED.items():
        print(f"ignored: {id_}, {reason}")
    failures = []
    for service in SERVICES:
        report = ask(service, requirements)
        if isinstance(report, str):
            failures.append(f"{service}: {report}")
            continue
        text, holes = judge(report)
        print(text)
        return 1 if holes else 0
    print(f"NOT AUDITED: no advisory service answered for any of {len(requirements)} packages")
    print("\n".join(f"  {failure}" for failure in failures))
    return 0


def ask(service: str, requirements: Sequence[str]) -> list[dict[str, Any]] | str:
    """Return what pip-audit found, a dict for each package, or why it found nothing out."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--requirement", file.name]
        command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        command += [part for id_ in IGNORED for part in ("--ignore-vuln", id_)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)  # noqa: S603 - its own parts
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} s"
    if "No module named pip_audit" in done.stderr:
        sys.exit("pip-audit is not installed: `make audit` installs it")
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["nothing said"])[-1][:300]
    if not any("vulns" in package for package in packages):
        return packages[0].get("skip_reason", "nothing said") if packages else "no packages"
    return packages


def judge(packages: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """Return what is to be said of a report, and whether there is a hole in it."""
    audited = [package for package in packages if "vulns" in package]
    skipped = [package["name"] for package in packages if "vulns" not in package]
    holes = [
        f"  {package['name']} {package['version']}: {hole['id']} {' '.join(hole.get('aliases', []))}, "
        f"mended in {', '.join(hole.get('fix_versions', [])) or 'no version'}"
        for package in audited
        for hole in package["vulns"]
    ]
    lines = [f"audited {len(audited)} packages: {len(holes)} known vulnerabilities", *holes]
    if skipped:
        lines.append(f"NOT AUDITED, not known to the service: {', '.join(skipped)}")
    return "\n".join(lines), bool(holes)


if __name__ == "__main__":
    sys.exit(main())
