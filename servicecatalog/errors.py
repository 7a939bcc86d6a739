"""What an administrator is told when something cannot be done."""


class InstallError(Exception):
    """The platform cannot be installed or removed as it stands; the message says why and what to do."""
