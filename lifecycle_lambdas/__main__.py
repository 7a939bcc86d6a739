import sys

from lifecycle_lambdas.command_line import main
from lifecycle_lambdas.log import hide_info

hide_info()
sys.exit(main())
