"""Other tools' scripts (`peers/contract.py`), run in their own environments."""

import json
import subprocess
from pathlib import Path

from engines.environments import SetupFailed, environment, worker_environment

HERE = Path(__file__).resolve().parent / "peers"


def made_by(tool: str, script: str, folder: Path, output: Path, *more: str) -> dict[str, dict[str, str]]:
    """What `forms.json` says after `script FOLDER OUTPUT MORE`; a tool that fails as a whole has the one form "*"."""
    output.mkdir(exist_ok=True)
    try:
        python = environment(HERE / tool, "requirements.txt", "constraints.txt")
    except SetupFailed as error:
        return {"*": {"failed": f"it cannot be installed: {error}"}}
    print(f"{tool}: {script}", flush=True)
    command = [str(python), str(HERE / tool / script), str(folder), str(output), *more]
    done = subprocess.run(command, capture_output=True, text=True, env=worker_environment(python), check=False)
    report = output / "forms.json"
    if done.returncode or not report.is_file():
        said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return {"*": {"failed": said[0]}}
    forms: dict[str, dict[str, str]] = json.loads(report.read_text())
    return forms
