variable "build_folder" {
  description = "Where `python -m servicecatalog build FOLDER` wrote what is uploaded, with the same Git host and owner."
  type        = string

  validation {
    condition     = fileexists("${var.build_folder}/manifest.json")
    error_message = "The folder has no manifest.json: make it with python -m servicecatalog build FOLDER."
  }
}

variable "git_host" {
  description = "Where the repositories of new projects are made: codecommit or github."
  type        = string
  default     = "codecommit"

  validation {
    condition     = contains(["codecommit", "github"], var.git_host)
    error_message = "git_host is codecommit or github."
  }
}

variable "git_owner" {
  description = "The organization or user on GitHub to whom the repositories will belong."
  type        = string
  default     = ""
}

variable "git_token_secret_arn" {
  description = "The Secrets Manager secret with GitHub's token."
  type        = string
  default     = ""

  validation {
    condition     = var.git_token_secret_arn == "" || can(regex("^arn:aws[a-z-]*:secretsmanager:", var.git_token_secret_arn))
    error_message = "git_token_secret_arn is the ARN of a secret, not the token."
  }
}

variable "principals" {
  description = "Up to five roles, users or groups that see the product: ARNs without their account, such as arn:aws:iam:::role/studio-*. Each keeps its place: put \"\" where one is taken away, and a new one at the end or in such a place."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.principals) <= 5
    error_message = "A portfolio of ours has at most five principals: let one with * stand for several."
  }
  validation {
    condition     = alltrue([for arn in var.principals : arn == "" || can(regex("^arn:aws[a-z-]*:iam:::(role|user|group)/", arn))])
    error_message = "A principal is an ARN without its account, such as arn:aws:iam:::role/studio-*."
  }
  validation {
    condition     = length(distinct([for arn in var.principals : arn if arn != ""])) == length([for arn in var.principals : arn if arn != ""])
    error_message = "A principal stands in the list once."
  }
}

variable "parameters" {
  description = "Further parameters of platform.yaml by name, and portfolio.yaml's TemplateRepository, such as { AlertEmail = \"team@example.com\" }; its own descriptions and patterns hold."
  type        = map(string)
  default     = {}

  validation {
    condition = length(setintersection(keys(var.parameters), [
      "CodeBucket", "CodeKey", "SeedCodeKey", "GitHost", "GitOwner", "GitTokenSecretArn",
    ])) == 0
    error_message = "These are set by the module: CodeBucket, CodeKey, SeedCodeKey, and by its variables GitHost, GitOwner, GitTokenSecretArn."
  }
}

variable "studio_s3_templates" {
  description = "Whether Studio may read the S3 project template from the bucket. Its domain lists it once it has the tag of output studio_tag."
  type        = bool
  default     = false
}

variable "destroy_code" {
  description = "Whether destroying takes the code bucket with all archives that ever ran."
  type        = bool
  default     = false
}
