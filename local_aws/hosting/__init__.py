"""What answers at an endpoint: model containers as processes, fleets of them, and the listener of InvokeEndpoint.

`Container` is one process in an image's environment with an unpacked model; a transform job uses it alone. A `Fleet`
keeps the container of one production variant running. `Hosting` has the fleets of all endpoints and the data plane, a
process of its own (local_aws/data_plane) that sends each InvokeEndpoint to a fleet as the endpoint's routes say.
"""

from local_aws.hosting.container import Container, ContainerFailure, ContainerSpec
from local_aws.hosting.fleet import Fleet, FleetSpec
from local_aws.hosting.hosting import EndpointRoutes, Hosting, VariantRoute

__all__ = [
    "Container",
    "ContainerFailure",
    "ContainerSpec",
    "EndpointRoutes",
    "Fleet",
    "FleetSpec",
    "Hosting",
    "VariantRoute",
]
