"""Score the test rows."""

import json
import sys
from pathlib import Path

import pandas as pd
import xgboost as xgb

source, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
test = pd.read_csv(source / "test.csv")
model = xgb.Booster(model_file=source / "model.json")
scores = model.predict(xgb.DMatrix(test.drop(columns="label")))
accuracy = float(((scores > 0.5) == test["label"]).mean())
(out / "evaluation.json").write_text(json.dumps({"accuracy": accuracy}))
