"""How a job runs on this machine: its folder, the `/opt/ml` contract, its data, its process and its log."""
