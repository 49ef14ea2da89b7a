"""What is deployed: the image's commands, and the template, by AWS' own rules."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from contextlib import closing
from pathlib import Path
from typing import Any

import cfnlint
import httpx
import pytest
from cfnlint.decode import cfn_yaml
from tests.aws.events import Asked, answer_of, event_of
from tests.aws.runtime_api import Environment, variables
from tests.server_process import wait_until_ready, write_udfs

from webfoot.cli import commands

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deploy" / "aws" / "template.yaml"
UDF = """
    from webfoot import udf

    @udf
    def rows(n: int = 3) -> list[dict[str, int]]:
        return [{"n": i} for i in range(n)]
"""


# The template.


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = cfn_yaml.load(str(TEMPLATE))
    return loaded


def test_the_template_is_valid() -> None:
    regions = ["us-east-1", "eu-west-1"]
    found = cfnlint.lint_file(TEMPLATE, config=cfnlint.ManualArgs(regions=regions))
    assert [f"{match.linenumber}: {match.message}" for match in found] == []


_TRANSLATE = """
import json, sys
import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
session = boto3.Session(region_name="eu-west-1")
translator = Translator({}, Parser(), boto_session=session)
print(json.dumps(translator.translate(json.load(sys.stdin), {})))
"""


def translated(template: dict[str, Any]) -> dict[str, str]:
    """The resources that AWS makes of a template, each with its type."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    translator = cache / "webfoot" / "sam-translator"
    if not translator.exists():
        pytest.fail("there is no translator; run tests/aws/install-translator")
    ran = subprocess.run(
        [sys.executable, "-c", _TRANSLATE],
        env={**variables(), "PYTHONPATH": str(translator)},
        input=json.dumps(template),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return {name: item["Type"] for name, item in json.loads(ran.stdout)["Resources"].items()}


@pytest.mark.slow
def test_aws_reads_the_template_as_it_is_meant(template: dict[str, Any]) -> None:
    given = json.loads(json.dumps(template))
    # As `sam build` leaves it.
    del given["Resources"]["Function"]["Metadata"]
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/webfoot:1"
    given["Resources"]["Function"]["Properties"]["ImageUri"] = image
    made = translated(given)
    assert set(made.values()) >= {
        *("AWS::Lambda::Function", "AWS::Lambda::Url", "AWS::ApiGatewayV2::Api"),
        *("AWS::ApiGatewayV2::Stage", "AWS::Lambda::EventInvokeConfig", "AWS::S3::Bucket"),
        "AWS::Lambda::EventSourceMapping",
    }
    # The domain's mapping waits for a stage that only the translation names.
    assert made["ApiApiGatewayDefaultStage"] == "AWS::ApiGatewayV2::Stage"


def statements(template: dict[str, Any]) -> list[dict[str, Any]]:
    (policy,) = template["Resources"]["Role"]["Properties"]["Policies"]
    found = list(policy["PolicyDocument"]["Statement"])
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Policy":
            found += resource["Properties"]["PolicyDocument"]["Statement"]
    return [item["Fn::If"][1] if "Fn::If" in item else item for item in found]


def test_the_function_may_do_nothing_to_everything(template: dict[str, Any]) -> None:
    role = template["Resources"]["Role"]["Properties"]
    assert "ManagedPolicyArns" not in role
    for statement in statements(template):
        actions, resources = statement["Action"], statement["Resource"]
        assert "*" not in str(actions)
        for resource in resources if isinstance(resources, list) else [resources]:
            told = str(resource)
            assert told != "*"
            # Of a bucket, a path or the function's versions, not of a service.
            assert not re.search(r":\*|^\*|'\*", told.replace("${Function.Arn}:*", ""))


def test_the_function_may_invoke_itself_and_nothing_else(template: dict[str, Any]) -> None:
    (invoking,) = [item for item in statements(template) if "lambda:" in str(item["Action"])]
    assert invoking["Action"] == "lambda:InvokeFunction"
    own = [{"Fn::GetAtt": ["Function", "Arn"]}, {"Fn::Sub": "${Function.Arn}:*"}]
    assert invoking["Resource"] == own


def test_the_function_reaches_its_own_bucket_and_no_other(template: dict[str, Any]) -> None:
    by_id = {statement["Sid"]: statement for statement in statements(template)}
    assert by_id["Results"]["Resource"] == {"Fn::Sub": "${Results.Arn}/results/*"}
    assert set(by_id["Results"]["Action"]) == {
        *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    }
    assert by_id["MissingResults"]["Resource"] == {"Fn::GetAtt": ["Results", "Arn"]}


def test_the_bucket_is_private_encrypted_and_forgets(template: dict[str, Any]) -> None:
    bucket = template["Resources"]["Results"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert "ServerSideEncryptionConfiguration" in bucket["BucketEncryption"]
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == {"Ref": "ResultDays"}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    (cors,) = bucket["CorsConfiguration"]["CorsRules"]
    assert (cors["AllowedMethods"], cors["AllowedOrigins"]) == (["GET", "HEAD"], ["*"])


def test_logs_and_failures_are_kept_for_a_while(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    assert resources["Logs"]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
    function = resources["Function"]["Properties"]
    assert function["LoggingConfig"] == {"LogGroup": {"Ref": "Logs"}}
    failed = function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
    assert failed["Destination"] == {"Fn::GetAtt": ["Failures", "Arn"]}


def test_a_url_is_open_to_everybody_only_if_somebody_says_so(template: dict[str, Any]) -> None:
    assert template["Parameters"]["UrlAuth"]["Default"] == "AWS_IAM"
    to_all = {
        name: item["Properties"]
        for name, item in template["Resources"].items()
        if item["Type"] == "AWS::Lambda::Permission" and item["Properties"]["Principal"] == "*"
    }
    assert {template["Resources"][name]["Condition"] for name in to_all} == {"IsOpen"}
    # The whole function is open by its URL only.
    assert all(
        item.get("InvokedViaFunctionUrl") or item["Action"] == "lambda:InvokeFunctionUrl"
        for item in to_all.values()
    )


# The image.


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_image_has_two_stages_of_one_base_and_no_root() -> None:
    steps = instructions()
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    last = steps[max(n for n, (name, _) in enumerate(steps) if name == "FROM") :]
    assert [rest for name, rest in last if name == "USER"] == ["webfoot"]
    assert not any("pip" in rest for name, rest in last if name == "RUN")


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source.removeprefix("./") in kept


def test_every_package_of_the_image_is_locked_by_hash() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    for command in installs:
        assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command
    assert "--hash=sha256:" in (ROOT / "requirements-aws.txt").read_text()


def test_the_start_command_is_a_server_by_itself(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF)
    environment = start_environment(tmp_path, folder, Path(sys.executable).parent)
    check_server(tmp_path, environment)


def test_the_start_command_is_a_function_on_lambda(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF)
    environment = start_environment(tmp_path, folder, Path(sys.executable).parent)
    check_function(tmp_path, environment)


def start_environment(folder: Path, udfs: Path, binaries: Path) -> dict[str, str]:
    given = variables(WEBFOOT_FOLDER=str(udfs), TMPDIR=str(folder))
    path = f"{binaries}:{given['PATH']}"
    return {**given, "PATH": path, "PYTHONUNBUFFERED": "1", "HOME": str(folder)}


def check_server(folder: Path, environment: dict[str, str]) -> None:
    output = folder / "server.txt"
    command = [
        str(ROOT / "deploy" / "start"),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--drain",
        "0s",
    ]
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            url = wait_until_ready(process, output)
            assert httpx.get(f"{url}/udfs/rows.csv").text == "n\r\n0\r\n1\r\n2\r\n"
        finally:
            process.terminate()


def check_function(folder: Path, environment: dict[str, str]) -> None:
    command = [str(ROOT / "deploy" / "start"), "--host", "0.0.0.0", "--port", "8000"]
    with closing(Environment(command, environment, folder)) as function:
        outcome = function.invoke(event_of("http_api", Asked("GET", "/udfs/rows.csv")))
        assert outcome.error == "", function.printed()
        assert answer_of(outcome.json()).body == b"n\r\n0\r\n1\r\n2\r\n"


@pytest.mark.slow
def test_the_commands_of_the_image_make_what_runs(tmp_path: Path) -> None:
    source, installed = tmp_path / "src", tmp_path / "opt" / "webfoot"
    source.mkdir()
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            for item in rest.split()[:-1]:
                path = ROOT / item
                target = source / item
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, target)
    venv.create(installed, with_pip=True)
    for name, rest in instructions():
        if name != "RUN" or rest.startswith(("python -m venv", "useradd")):
            continue
        if " extensions bake " in rest and "extensions" not in commands.commands:
            continue
        command = shlex.split(rest.replace("/opt/", f"{tmp_path}/opt/"))
        ran = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    package = next(installed.glob("lib/python*/site-packages/webfoot"))
    compiled = next((package / "__pycache__").glob("registry.*.pyc")).read_bytes()
    assert compiled[4:8] == (1).to_bytes(4, "little")  # Checked against no source.
    environment = start_environment(tmp_path, write_udfs(tmp_path, rows=UDF), installed / "bin")
    del environment["PYTHONPATH"]
    check_server(tmp_path, environment)
    check_function(tmp_path, environment)
