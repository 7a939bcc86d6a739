"""IAM, asked before anything is done: who may do what, and what was asked.

`Permissions.check` asks one question of IAM; every service of ours calls it, and MiniStack asks the same way before its
services answer. Each question is kept in a log (`Decision`), whichever way it came.
"""

from local_aws.permissions.decisions import Decision, DecisionLog
from local_aws.permissions.permissions import Denied, Permissions

__all__ = ["Decision", "DecisionLog", "Denied", "Permissions"]
