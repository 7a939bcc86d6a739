import os
import sys

from lifecycle_lambdas.command_line import main
from lifecycle_lambdas.log import hide_info

hide_info()
try:
    code = main()
    sys.stdout.flush()
except BrokenPipeError:
    # Whoever reads, such as `head`, has had enough. Python would try to write the rest once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 1
sys.exit(code)
