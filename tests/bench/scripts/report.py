"""Say whether the model is good enough."""

import json
import sys
from pathlib import Path

source, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
accuracy = json.loads((source / "evaluation.json").read_text())["accuracy"]
(out / "report.txt").write_text(f"accuracy {accuracy:.3f}: {'good' if accuracy > 0.6 else 'bad'}\n")
