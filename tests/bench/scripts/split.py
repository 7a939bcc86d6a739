"""Split the table in three."""

import sys
from pathlib import Path

import pandas as pd

source, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
table = pd.read_csv(source / "data.csv")
for name, part in (("train", table[:1400]), ("validation", table[1400:1700]), ("test", table[1700:])):
    part.to_csv(out / f"{name}.csv", index=False)
