"""Installing Modelyard in an AWS account: `python -m servicecatalog install`. See docs/install.md."""
