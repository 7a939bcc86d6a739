"""What keeps every endpoint as its ledger says: declared -> observed -> plan -> execute -> sweep.

See docs/lifecycle.md.
"""
