"""AWS Service Catalog, as far as portfolios of CloudFormation products need it.

| module | what it is about |
|---|---|
| service | the service: its parts, and what they share |
| catalog | what is kept, its ids and ARNs, and how it is found |
| access | who may see and launch which product, by which path |
| portfolios | portfolios, their products, principals and constraints |
| products | products and their versions (provisioning artifacts) |
| provisioning | products that are launched, updated and terminated |
| launched | these products, and the records of it all, as they are read |
"""
