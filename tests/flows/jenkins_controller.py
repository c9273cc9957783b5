"""
A Jenkins controller as far as a client that starts and follows builds can tell; a fake at Jenkins' port, and a program of its own.

    python jenkins_controller.py PORT FOLDER

Everything it knows lies in FOLDER, so that one that was killed and started again goes on where it was, as Jenkins does:
``plan.json`` (written by a test) says what a build does; ``state.json`` holds jobs, queue and builds. A build either follows a
script of console lines by the clock, or runs a program that writes its console.

It follows these pages of Jenkins' documentation: "Remote Access API" (``/api/json``, ``/api/python`` with True, False and None,
``tree``, submitting builds, the queue item in ``Location``, ``createItem``, ``config.xml``), "CSRF Protection" (a POST needs the
crumb), "Authenticating scripted clients" (user and API token by basic authentication), and progressive console output
(``X-Text-Size``, ``X-More-Data``). What those pages have and this has not: folders, views, nodes, plugins, permissions by job.

plan.json: user, token; queue_seconds (how long a build waits; null: forever); why (what the queue says); forget_queue (true: items
that left are unknown); lines, line_seconds, result (of a scripted build); forbidden (true: the user may read only);
starting_seconds (503 after each start); execute (a command that is given the path of a request), request (values for it).
"""

import base64
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

CRUMB = "Jenkins-Crumb"


class Controller:
    """Jobs, queue and builds."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.plan: dict[str, Any] = json.loads((folder / "plan.json").read_text("utf-8"))
        self.began = time.time()
        self.lock = threading.RLock()
        self.programs: dict[int, subprocess.Popen[bytes]] = {}
        state = folder / "state.json"
        self.state: dict[str, Any] = (
            json.loads(state.read_text("utf-8")) if state.exists() else {"jobs": {}, "queue": {}, "builds": {}, "posts": []}
        )

    def save(self) -> None:
        """Write everything."""
        temporary = self.folder / "state.json.new"
        temporary.write_text(json.dumps(self.state), "utf-8")
        temporary.replace(self.folder / "state.json")

    def submit(self, job: str, given: dict[str, str]) -> int:
        """Put a build into the queue; parameters the job does not define are dropped."""
        item = len(self.state["queue"]) + 1
        known = self.parameters(job)
        values = {own["name"]: given.get(own["name"], own["defaultParameterValue"]["value"]) for own in known}
        self.state["queue"][str(item)] = {"job": job, "since": time.time(), "parameters": values, "cancelled": False, "build": None}
        self.save()
        return item

    def advance(self) -> None:
        """Let what waited long enough begin."""
        for number, item in self.state["queue"].items():
            wait = self.plan.get("queue_seconds", 0.2)
            if item["build"] is None and not item["cancelled"] and wait is not None and time.time() - item["since"] >= wait:
                started = item["build"] = len(self.state["builds"]) + 1
                build = {"job": item["job"], "item": int(number), "began": time.time(), "parameters": item["parameters"]}
                self.state["builds"][str(started)] = build
                self.save()
                if "execute" in self.plan:
                    self.execute(started, item["parameters"])

    def execute(self, number: int, parameters: dict[str, str]) -> None:
        """Start the program that is the build; console.N is its console."""
        folder = self.folder / f"build-{number}"
        folder.mkdir()
        request = folder / "request.json"
        given = {name: value for name, value in parameters.items() if value}
        values = {**self.plan["request"], "folder": str(folder), "parameters": given, "number": str(number)}
        request.write_text(json.dumps(values), "utf-8")
        with (self.folder / f"console.{number}").open("wb") as console:
            command = [*self.plan["execute"], str(request)]
            self.programs[number] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)

    def console(self, number: int) -> tuple[bytes, bool]:
        """Give a build's console so far, and whether it is still written."""
        if number in self.programs:
            running = self.programs[number].poll() is None  # before reading: what is written meanwhile comes next time
            return (self.folder / f"console.{number}").read_bytes(), running
        lines = [*self.plan.get("lines", []), f"Finished: {self.plan['result']}"]
        ready = int((time.time() - self.state["builds"][str(number)]["began"]) / self.plan.get("line_seconds", 0.02))
        return "".join(f"{line}\n" for line in lines[:ready]).encode(), ready < len(lines)

    def result(self, number: int) -> str | None:
        """Give a build's result; None while it runs."""
        text, running = self.console(number)
        return None if running else text.decode().rsplit("Finished: ", 1)[1].strip()

    def parameters(self, job: str) -> list[dict[str, Any]]:
        """Give the definitions that a job's configuration holds."""
        found = []
        for own in ET.fromstring(self.state["jobs"][job]).iter():  # noqa: S314 - of the client under test
            kind = re.fullmatch(r"hudson\.model\.(\w+ParameterDefinition)", own.tag)
            if kind is not None:
                default = own.findtext("defaultValue") or own.findtext("choices//string") or ""
                found.append(
                    {"_class": own.tag, "name": own.findtext("name"), "type": kind[1], "defaultParameterValue": {"value": default}}
                )
        return found

    def show_job(self, job: str) -> dict[str, Any]:
        """Give a job as its page does."""
        builds = [
            {"_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun", "number": int(number), "queueId": own["item"]}
            for number, own in self.state["builds"].items()
            if own["job"] == job
        ]
        prop = {"_class": "hudson.model.ParametersDefinitionProperty", "parameterDefinitions": self.parameters(job)}
        about = {
            "_class": "org.jenkinsci.plugins.workflow.job.WorkflowJob",
            "name": job,
            "url": f"{self.url}/job/{job}/",
            "buildable": True,
        }
        return {**about, "actions": [None, {}], "property": [prop], "builds": builds[::-1], "firstBuild": builds[0] if builds else None}

    def show_item(self, number: str) -> dict[str, Any] | None:
        """Give a place in the queue as its page does."""
        item = self.state["queue"].get(number)
        if item is None or (self.plan.get("forget_queue") and item["build"]):
            return None
        task = {"name": item["job"], "url": f"{self.url}/job/{item['job']}/"}
        common = {"id": int(number), "task": task, "inQueueSince": int(item["since"] * 1000), "cancelled": item["cancelled"]}
        if item["build"]:
            executable = {"number": item["build"], "url": f"{self.url}/job/{item['job']}/{item['build']}/"}
            return {"_class": "hudson.model.Queue$LeftItem", **common, "why": None, "executable": executable}
        return {"_class": "hudson.model.Queue$BlockedItem", **common, "why": self.plan.get("why", "In the quiet period")}

    def show_build(self, number: str) -> dict[str, Any] | None:
        """Give a build as its page does."""
        build = self.state["builds"].get(number)
        if build is None:
            return None
        result = self.result(int(number))
        parameters = [{"name": name, "value": value} for name, value in build["parameters"].items()]
        action = {"_class": "hudson.model.ParametersAction", "parameters": parameters}
        return {"number": int(number), "queueId": build["item"], "building": result is None, "result": result, "actions": [action]}


class Handler(BaseHTTPRequestHandler):
    """Translates; the controller knows."""

    controller: Controller
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.controller.lock:
            if self._is_let_in():
                self._get(urlsplit(self.path).path.strip("/"), {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        with self.controller.lock:
            if self._is_let_in():
                self._post(urlsplit(self.path).path.strip("/"), {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}, body)

    def _is_let_in(self) -> bool:
        plan = self.controller.plan
        if time.time() - self.controller.began < plan.get("starting_seconds", 0):
            self._answer(503, "Please wait while Jenkins is getting ready to work")
            return False
        expected = "Basic " + base64.b64encode(f"{plan['user']}:{plan['token']}".encode()).decode()
        if self.headers.get("authorization") != expected:
            self._answer(401, "Invalid password/token for user")
            return False
        return True

    def _get(self, path: str, query: dict[str, str]) -> None:
        own = self.controller
        own.advance()
        parts = path.split("/")
        found: Any = None
        if path.endswith(("api/python", "api/json")):
            page = parts[:-2]
            match page:
                case []:
                    jobs = [{"name": name, "color": "blue", "url": f"{own.url}/job/{name}/"} for name in own.state["jobs"]]
                    found = {"_class": "hudson.model.Hudson", "jobs": jobs}
                case ["crumbIssuer"]:
                    found = {"_class": "hudson.security.csrf.DefaultCrumbIssuer", "crumb": "a-crumb", "crumbRequestField": CRUMB}
                case ["job", name] if name in own.state["jobs"]:
                    found = own.show_job(name)
                case ["queue", "item", number]:
                    found = own.show_item(number)
                case ["job", _, number]:
                    found = own.show_build(number)
            if found is not None:
                text = json.dumps(found)
                if parts[-1] == "python":
                    text = re.sub(r"\b(true|false|null)\b", lambda word: {"true": "True", "false": "False", "null": "None"}[word[0]], text)
                self._answer(200, text)
                return
        if parts[-1] == "config.xml" and parts[1] in own.state["jobs"]:
            # Jenkins writes a configuration its own way: another declaration, the versions of plugins.
            text = own.state["jobs"][parts[1]].replace("<flow-definition>", '<flow-definition plugin="workflow-job@1">')
            self._answer(200, f"<?xml version='1.1' encoding='UTF-8'?>\n{text}", kind="application/xml")
        elif parts[-1] == "progressiveText" and parts[2] in own.state["builds"]:
            console, running = own.console(int(parts[2]))
            more = {"X-More-Data": "true"} if running else {}
            self._answer(
                200, console[int(query.get("start", 0)) :], {"X-Text-Size": str(len(console)), **more}, kind="text/plain;charset=utf-8"
            )
        else:
            self._answer(404, "Not Found")

    def _post(self, path: str, query: dict[str, str], body: str) -> None:
        own = self.controller
        if self.headers.get(CRUMB) != "a-crumb":
            self._answer(403, "No valid crumb was included in the request")
            return
        if own.plan.get("forbidden"):
            self._answer(403, "reader is missing the Job/Build permission")
            return
        own.state["posts"].append(path)
        parts = path.split("/")
        match parts:
            case ["createItem"] | ["job", _, "config.xml"]:
                try:
                    ET.fromstring(body)  # noqa: S314 - of the client under test
                except ET.ParseError as exc:
                    self._answer(500, str(exc))
                    return
                own.state["jobs"][query["name"] if parts == ["createItem"] else parts[1]] = body
                own.save()
                self._answer(200, "")
            case ["job", name, "buildWithParameters"] if name in own.state["jobs"]:
                given = {key: values[0] for key, values in parse_qs(body, keep_blank_values=True).items()}
                self._answer(201, "", {"Location": f"{own.url}/queue/item/{own.submit(name, given)}/"})
            case ["queue", "cancelItem"]:
                own.state["queue"][query["id"]]["cancelled"] = True
                own.save()
                self._answer(204, "")
            case _:
                self._answer(404, "Not Found")

    def _answer(self, status: int, body: str | bytes, headers: dict[str, str] | None = None, kind: str = "text/plain") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main(port: int, folder: Path) -> None:
    """Serve until the process ends."""
    Handler.controller = Controller(folder, f"http://127.0.0.1:{port}")
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
