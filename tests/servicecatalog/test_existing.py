"""What an installation is told to use is looked at before anything is made; what an earlier one left is found."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from servicecatalog import existing, install, uninstall
from servicecatalog.account import KEY_ALIAS, LEDGER_TABLE, Account
from servicecatalog.errors import InstallError
from tests.servicecatalog.conftest import Administrator, account_of

HOST = "token.actions.githubusercontent.com"


@pytest.fixture
def account(administrator: Administrator) -> Account:
    """Of nobody's, with nothing in it."""
    return account_of(administrator)


def make_key(account: Account) -> str:
    return str(account.client("kms").create_key()["KeyMetadata"]["Arn"])


def make_table(account: Account, name: str, key: str) -> None:
    account.client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "endpoint", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "endpoint", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    )


def make_provider(account: Account, *audiences: str) -> str:
    made = account.client("iam").create_open_id_connect_provider(Url=f"https://{HOST}", ClientIDList=list(audiences))
    return str(made["OpenIDConnectProviderArn"])


def adopted(account: Account, **standing: str) -> dict[str, Any]:
    """The parameters with which an installation goes on."""
    values: dict[str, str] = {}
    install._adopt(account, values, standing, {})
    return values


def test_what_is_not_there_is_named_with_what_was_given(account: Account, administrator: Administrator) -> None:
    given = {
        "ExistingArtifactBucket": "no-such-artifacts",
        "ExistingTemplateBucket": "no-such-templates",
        "ExistingBuildBucket": "no-such-builds",
        "ExistingLedgerTable": "no-such-table",
        "ExistingKmsKeyArn": f"arn:aws:kms:us-east-1:{account.number}:key/11112222-3333-4444-5555-666677778888",
        "ExistingOidcProviderArn": f"arn:aws:iam::{account.number}:oidc-provider/{HOST}",
    }
    options = [install.option(name) for name in given]

    said = list(zip(options, given.values(), strict=True))
    refused = administrator.run("install", "--yes", *chain.from_iterable(said), fails=True).stderr

    assert [f"{option} {value}" for option, value in said if f"{option} {value}" not in refused] == []
    assert administrator.status == "none"


def test_what_is_there_has_no_fault(account: Account) -> None:
    key = make_key(account)
    account.client("s3").create_bucket(Bucket=f"mine-{account.number}")
    make_table(account, "restored", key)
    given = {
        "ExistingArtifactBucket": f"mine-{account.number}",
        "ExistingKmsKeyArn": key,
        "ExistingLedgerTable": "restored",
        "ExistingOidcProviderArn": make_provider(account, "sts.amazonaws.com"),
    }
    assert existing.faults(account, given, given) == []


def test_a_ledger_is_not_used_with_a_key_that_does_not_open_it(account: Account) -> None:
    used, other = make_key(account), make_key(account)
    make_table(account, "restored", used)
    given = {"ExistingLedgerTable": "restored", "ExistingKmsKeyArn": other}
    assert existing.faults(account, given, given) == [
        f"--existing-ledger-table restored is encrypted with {used}: give --existing-kms-key-arn {used}"
    ]


def test_a_provider_without_the_audience_is_told_how_it_gets_one(account: Account) -> None:
    arn = make_provider(account, "somebody-elses")
    (fault,) = existing.faults(account, {"ExistingOidcProviderArn": arn}, {})
    assert f"add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn}" in fault


def test_a_provider_of_another_github_is_refused(account: Account) -> None:
    arn = make_provider(account, "sts.amazonaws.com")
    standing = {"ExistingOidcProviderArn": arn, "GitBaseUrl": "https://github.example.com"}
    (fault,) = existing.faults(account, standing, standing)
    assert "is not the provider of https://github.example.com" in fault


def test_a_provider_that_was_found_is_not_kept_for_another_github(account: Account) -> None:
    arn = make_provider(account, "sts.amazonaws.com")
    for base_url, forgotten in (("", {}), ("https://github.example.com", {"ExistingOidcProviderArn": ""})):
        values: dict[str, str] = {}
        install._forget_provider(values, {"ExistingOidcProviderArn": arn, "GitBaseUrl": base_url}, {})
        assert values == forgotten


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_a_key_that_cannot_be_used_is_not_replaced_by_one_whose_alias_is_taken(account: Account, state: str) -> None:
    kms, key = account.client("kms"), make_key(account)
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=key)
    assert adopted(account) == {"ExistingKmsKeyArn": key}

    if state == "Disabled":
        kms.disable_key(KeyId=key)
    else:
        kms.schedule_key_deletion(KeyId=key)

    with pytest.raises(InstallError, match=rf"{key}, which is {state}: aws kms (enable-key|cancel-key-deletion)"):
        adopted(account)
    assert adopted(account, ExistingKmsKeyArn=make_key(account)) == {}


def test_the_ledgers_own_key_is_found_with_it(account: Account) -> None:
    """An installation with a key of the administrator's leaves no alias."""
    key = make_key(account)
    make_table(account, LEDGER_TABLE, key)
    assert adopted(account) == {"ExistingLedgerTable": LEDGER_TABLE, "ExistingKmsKeyArn": key}
    with pytest.raises(InstallError, match=f"is encrypted with {key}, which nobody could read"):
        adopted(account, ExistingKmsKeyArn=make_key(account))


def test_what_was_installed_can_be_installed_again_as_it_was(account: Account) -> None:
    given = {
        "ArtifactBuckets": "team-*,other",
        "AlertEmail": "",
        "CodeKey": "x",
        "GitHost": "github",
        "ExistingLedgerTable": "restored",
    }
    make_provider(account, "sts.amazonaws.com")
    said = uninstall.what_stays(account, given)
    options = "--git-host github --artifact-buckets 'team-*,other' --existing-ledger-table restored"
    assert f'  make install-platform OPTIONS="{options}"' in said
    assert any(line.endswith("delete-table --table-name restored") for line in said)
    assert any("delete-open-id-connect-provider" in line for line in said)


def test_projects_of_another_bucket_whose_name_ends_alike_are_not_ours() -> None:
    for url, ours in (
        ("https://s3.us-east-1.amazonaws.com/templates/projects/a.yaml", True),
        ("https://templates.s3.us-east-1.amazonaws.com/projects/a.yaml", True),
        ("https://s3.us-east-1.amazonaws.com/my-templates/projects/a.yaml", False),
        ("https://s3.us-east-1.amazonaws.com/mine/templates/a.yaml", False),
        ("", False),
    ):
        assert uninstall._is_of(url, "templates") is ours
