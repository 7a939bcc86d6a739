"""SageMaker: its parts, and what they share."""

from __future__ import annotations

from pathlib import Path

from local_aws.clock import Clock
from local_aws.events import Events
from local_aws.front_door import JsonService
from local_aws.hosting import Hosting
from local_aws.images import Images
from local_aws.loopback import Loopback
from local_aws.permissions.authorization import Authorization
from local_aws.sagemaker.domains import Domains
from local_aws.sagemaker.endpoint_configs import EndpointConfigs
from local_aws.sagemaker.endpoints import Endpoints
from local_aws.sagemaker.executions import Executions
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.models import Models
from local_aws.sagemaker.pipelines import Pipelines
from local_aws.sagemaker.projects import Projects
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.transform import TransformJobs
from local_aws.sagemaker.tuning import Tuning
from local_aws.store import Store


class SageMaker(JsonService):
    """The service: its parts, and what they share.

    Args:
        store: where every resource is kept.
        loopback: clients for the other services of this server (S3, CloudWatch Logs).
        images: the environments that stand for container images.
        work: a folder for the jobs' own folders.
        opt_ml: how jobs get /opt/ml: "auto", "namespace" or "rewrite".
        clock: how fast AWS's time passes.
        events: where state changes are told.
        hosting: what runs the endpoints' containers.
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(
        self,
        store: Store,
        loopback: Loopback,
        images: Images,
        work: Path,
        opt_ml: str = "auto",
        *,
        clock: Clock,
        events: Events,
        hosting: Hosting,
        authorization: Authorization | None = None,
    ) -> None:
        super().__init__("sagemaker", "SageMaker", "SageMaker.", authorization)
        self.store = store
        self.tags = Tags(store)
        self.quotas = Quotas()
        self.registry = Registry(store, self.tags, events, self.quotas)
        self.jobs = Jobs(store, self.tags, loopback, images, work, opt_ml, events)
        self.models = Models(store, self.tags, loopback, self.registry, events)
        self.endpoint_configs = EndpointConfigs(store, self.tags, self.models, events)
        self.endpoints = Endpoints(
            store, self.tags, loopback, self.models, self.endpoint_configs, events, hosting, clock, self.quotas
        )
        self.transform_jobs = TransformJobs(self.jobs, self.models, loopback, images, work)
        self.tuning = Tuning(store, self.tags, self.jobs, loopback, self.authorize)
        self.executions = Executions(store, loopback, self.jobs, self.tuning, self.registry, events, self.authorize)
        self.pipelines = Pipelines(store, self.tags, loopback, self.executions)
        self.projects = Projects(store, self.tags, loopback, self.quotas)
        for part in (
            self.tags,
            self.registry,
            self.jobs,
            self.models,
            self.endpoint_configs,
            self.endpoints,
            self.transform_jobs,
            self.tuning,
            self.executions,
            self.pipelines,
            self.projects,
            Domains(store, self.tags, loopback),
        ):
            self.operations.update(part.operations())

    def resume(self) -> None:
        """After a restart with state: what was under way when the last process ended is failed, saying so."""
        self.jobs.resume()
        self.tuning.resume()
        self.executions.resume()
        self.endpoints.resume()

    def resume_projects(self) -> None:
        """The same for projects, which ask other services: when the server answers."""
        self.projects.resume()

    def kill(self) -> None:
        """Start nothing more, and kill every job's processes; those of endpoints are the hosting's."""
        self.projects.kill()
        self.endpoints.kill()
        self.executions.stop()
        self.tuning.kill()
        self.jobs.kill()

    def stop(self) -> None:
        """The same, and wait for the threads that watch the jobs and change the endpoints."""
        self.kill()
        self.endpoints.join()
        self.jobs.join()
        self.tuning.join()
        self.projects.join()

    @property
    def busy(self) -> bool:
        """Whether any job, execution or change of an endpoint or project is under way."""
        parts = (self.endpoints, self.jobs, self.tuning, self.executions, self.projects)
        return any(part.busy for part in parts)
