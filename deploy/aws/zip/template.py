"""The template of the image, for a function that is a zip: all else is the same."""

from __future__ import annotations

_IMAGE = """\
    Metadata:
      Dockerfile: Dockerfile
      DockerContext: ../..
      DockerTag: webfoot
    Properties:
      PackageType: Image
"""
_ZIP = """\
    Properties:
      PackageType: Zip
      CodeUri: {code}
      Runtime: {runtime}
      Handler: webfoot.aws.handler
"""
_EITHER_MACHINE = """\
    Default: arm64
    AllowedValues: [arm64, x86_64]
    Description: Must be that of the machine that builds the image.
"""
_THIS_MACHINE = """\
    Default: {architecture}
    AllowedValues: [{architecture}]
    Description: What the zip is made for.
"""


def zip_template(template: str, architecture: str, runtime: str, code: str) -> str:
    """The template for a zip.

    Args:
        template: That of the image.
        architecture: What the zip is made for, as Lambda calls it.
        runtime: Lambda's runtime, such as `python3.13`.
        code: Where the zip is, from the template.

    Raises:
        ValueError: If the template does not say what is replaced.
    """
    for old, new in ((_IMAGE, _ZIP), (_EITHER_MACHINE, _THIS_MACHINE)):
        if old not in template:
            raise ValueError(f"the template has no\n{old}so it cannot be made one for a zip")
        text = new.format(code=code, runtime=runtime, architecture=architecture)
        template = template.replace(old, text)
    return template
