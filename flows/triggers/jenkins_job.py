"""A Jenkins job that releases one model: its name, its configuration as XML, and the parameters of a build."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from lastgood.flows.triggers.verdict import TriggerSettingsError

# The Jenkinsfile's parameters: kind, default, choices. Jenkins learns them from the file in the first build only, and drops
# the values of that build unless the job has them.
PARAMETERS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "MODEL": ("string", "digits", ()),
    "STRATEGY": ("choice", "canary", ("canary", "shadow", "direct")),
    "SETTINGS": ("text", "", ()),
    "WHY": ("string", "", ()),
    "SEED": ("string", "", ()),
    "COMMIT": ("string", "HEAD", ()),
    "DEPLOY": ("booleanParam", "true", ()),
    "APPROVAL": ("booleanParam", "false", ()),
    "WAIT": ("choice", "live", ("live", "stable", "no")),
}
_CLASSES: Final = {"string": "String", "text": "Text", "booleanParam": "Boolean", "choice": "Choice"}
_SCHEMES: Final = {"https", "http", "ssh", "git", "file"}
_SCP_LIKE: Final = re.compile(r"[\w.-]+@[\w.-]+:[\w./~-]+")


@dataclass(frozen=True, slots=True)
class JenkinsJob:
    """One model's job."""

    model: str
    repository: str
    branch: str
    credentials: str | None = None

    @property
    def name(self) -> str:
        """The job's name in Jenkins."""
        return f"lastgood-{self.model}"

    def to_xml(self) -> str:
        """
        Give the job's config.xml; its description ends with the digest of everything else in it.

        Raises:
            TriggerSettingsError: The repository cannot be one, or holds a password.
        """
        check_repository(self.repository)
        root = ET.Element("flow-definition")
        description = ET.SubElement(root, "description")
        ET.SubElement(root, "keepDependencies").text = "false"
        definitions = ET.SubElement(ET.SubElement(root, "properties"), "hudson.model.ParametersDefinitionProperty")
        _add_parameters(ET.SubElement(definitions, "parameterDefinitions"), self.model)
        flow = ET.SubElement(root, "definition", {"class": "org.jenkinsci.plugins.workflow.cps.CpsScmFlowDefinition"})
        scm = ET.SubElement(flow, "scm", {"class": "hudson.plugins.git.GitSCM"})
        ET.SubElement(scm, "configVersion").text = "2"
        remote = ET.SubElement(ET.SubElement(scm, "userRemoteConfigs"), "hudson.plugins.git.UserRemoteConfig")
        ET.SubElement(remote, "url").text = self.repository
        if self.credentials is not None:
            ET.SubElement(remote, "credentialsId").text = self.credentials
        ET.SubElement(ET.SubElement(ET.SubElement(scm, "branches"), "hudson.plugins.git.BranchSpec"), "name").text = f"*/{self.branch}"
        ET.SubElement(flow, "scriptPath").text = "Jenkinsfile"
        ET.SubElement(flow, "lightweight").text = "true"
        ET.SubElement(root, "disabled").text = "false"
        digest = hashlib.sha256(ET.tostring(root)).hexdigest()
        description.text = f"Releases {self.model}. Made by lastgood trigger jenkins; changes here are kept until it has others. {digest}"
        ET.indent(root)
        return ET.tostring(root, encoding="unicode")

    def is_in(self, config: str) -> bool:
        """Say whether a job's config.xml was made from this one; Jenkins writes it its own way, but keeps the description."""
        found = re.search(r"<description>(.*?)</description>", config, re.DOTALL)
        own = ET.fromstring(self.to_xml()).findtext("description", "")  # noqa: S314 - made a line above
        return found is not None and found[1].strip().endswith(own.rsplit(" ", 1)[1])


def check_repository(url: str) -> None:
    """
    Refuse what git should not be told to fetch.

    Raises:
        TriggerSettingsError: It holds a password, or is no address of a repository.
    """
    if _SCP_LIKE.fullmatch(url):
        return
    parts = urlsplit(url)
    if parts.password:
        raise TriggerSettingsError(
            "The repository's address holds a password, which would be readable in Jenkins. Set [jenkins] repository without it, "
            "and credentials to the id of credentials in Jenkins."
        )
    if parts.scheme not in _SCHEMES or not url.isprintable() or " " in url:
        raise TriggerSettingsError(
            f"{url[:120]!r} is no address that Jenkins can check out; expected https://…, ssh://…, git@host:path or file://…. "
            "Set [jenkins] repository."
        )


def _add_parameters(into: ET.Element, model: str) -> None:
    for name, (kind, default, choices) in PARAMETERS.items():
        own = ET.SubElement(into, f"hudson.model.{_CLASSES[kind]}ParameterDefinition")
        ET.SubElement(own, "name").text = name
        if choices:
            array = ET.SubElement(ET.SubElement(own, "choices", {"class": "java.util.Arrays$ArrayList"}), "a", {"class": "string-array"})
            for choice in choices:
                ET.SubElement(array, "string").text = choice
        else:
            ET.SubElement(own, "defaultValue").text = model if name == "MODEL" else default
