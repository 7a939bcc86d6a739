"""Write a seeded table: 2,000 rows, 20 numbers and a label."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

out = Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
random = np.random.default_rng(7)
table = pd.DataFrame(random.normal(size=(2000, 20)), columns=[f"x{number}" for number in range(20)])
table["label"] = (table["x0"] + table["x1"] * table["x2"] + random.normal(size=2000) > 0).astype(int)
table.to_csv(out / "data.csv", index=False)
