"""What stands in for SageMaker Studio's form "Create project": an AWS client with the credentials of whoever runs it.

It knows nothing of this server: with the variables of an AWS account it works there too.

| module | what it is about |
|---|---|
| templates | which templates this person may see, and what they ask |
| projects | a project made from one, and followed until it is there, or gone |
| command | python -m local_aws studio: the form, and the same without questions |
"""

from local_aws.studio.projects import Project, ProjectError, create_project, delete_project
from local_aws.studio.templates import Clients, Template, find_template, find_templates

__all__ = [
    "Clients",
    "Project",
    "ProjectError",
    "Template",
    "create_project",
    "delete_project",
    "find_template",
    "find_templates",
]
