"""Train 50 rounds of XGBoost."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import xgboost as xgb

source, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
train = pd.read_csv(source / "train.csv")
matrix = xgb.DMatrix(train.drop(columns="label"), train["label"])
model = xgb.train({"objective": "binary:logistic", "max_depth": 4}, matrix, 50)
model.save_model(out / "model.json")
shutil.copy(source / "test.csv", out)
