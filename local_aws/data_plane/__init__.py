"""The listener of InvokeEndpoint, in a process of its own: requests in, to containers' sockets, answers back.

Started by local_aws.hosting, which tells it over a socket what to send where (`control`). It imports nothing but the
standard library, so that it is there at once and stays small.
"""
