"""The model server inside of a container, and what the XGBoost image does with requests."""
