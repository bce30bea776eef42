"""What schemathesis cannot guess: who is logged in, and ids that exist.

A run ends its own logins and changes its own password, so that the token is
fetched anew where it was refused, and what is known is kept up to date. Of the
cases that ought to be accepted, every other one is given something that exists; a
case that ought to be refused is left as it is.
"""

import atexit
import collections
import json
import os
import random

import requests
import schemathesis
from hypothesis import strategies as st

GATEWAY = os.environ["API_GATEWAY"]
EMAIL = os.environ["API_EMAIL"]
COMPANY = os.environ["API_COMPANY"]
WITH_TOKEN = os.environ["API_WITH_TOKEN"] == "yes"
TALLY = os.environ["API_TALLY"]

chance = random.Random(int(os.environ["API_SEED"]))
known = {"password": os.environ["API_PASSWORD"], "token": None, "refresh": [], "sessions": [], "invitations": []}
tally = collections.defaultdict(collections.Counter)

# One unquoted local part and a domain of two labels, which is what an address is here.
label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
schemathesis.openapi.format("idn-email", st.builds("{}@{}.{}".format, st.from_regex(r"[a-z0-9+_-]{1,30}", fullmatch=True), label, label))


def log_in():
    answer = requests.post(GATEWAY + "/api/v1/users/login", json={"email": EMAIL, "password": known["password"]}, timeout=30)
    answer.raise_for_status()
    known["refresh"].append(answer.json()["refresh_token"])
    return answer.json()["access_token"]


@schemathesis.auth(refresh_interval=None)
class Bearer:
    def get(self, case, context):
        if not WITH_TOKEN:
            return None
        if known["token"] is None:
            known["token"] = log_in()
        return known["token"]

    def set(self, case, data, context):
        if data is not None:
            case.headers["Authorization"] = f"Bearer {data}"


def name_of(case):
    return case.operation.definition.raw["operationId"]


@schemathesis.hook
def before_call(context, case, kwargs):
    if not WITH_TOKEN or case.meta is None or not case.meta.generation.mode.is_positive or chance.random() < 0.5:
        return
    name, path, body = name_of(case), case.path_parameters, case.body if isinstance(case.body, dict) else None
    if path and "company_id" in path:
        path["company_id"] = COMPANY
    if path and "invitation_id" in path and known["invitations"]:
        path["invitation_id"] = chance.choice(known["invitations"])
    if path and "session_id" in path:
        if not known["sessions"]:
            learn("sessions", requests.get(GATEWAY + "/api/v1/users/me/sessions", headers=case.headers, timeout=30))
        if known["sessions"]:
            path["session_id"] = chance.choice(known["sessions"])
    if body is None:
        return
    if name == "login":
        body.update(email=EMAIL, password=known["password"])
    elif name == "refresh" and known["refresh"]:
        body["refresh_token"] = known["refresh"].pop()
    elif name in ("password", "sessions_end"):
        body["current_password"] = known["password"]
    elif name in ("ensure_company", "invitations_decline"):
        body["company_id"] = COMPANY
        body.pop("invitation_token", None)


def learn(name, answer):
    """Keep what an answer tells of."""
    if answer.status_code >= 300:
        return
    told = answer.json() if answer.content else {}
    if name in ("login", "refresh") and "refresh_token" in told:
        known["refresh"].append(told["refresh_token"])
    elif name == "sessions":
        known["sessions"] = [one["id"] for one in told["sessions"]]
    elif name == "invitations_create":
        known["invitations"].append(told["id"])


@schemathesis.hook
def after_call(context, case, response):
    name = name_of(case)
    tally[name][response.status_code] += 1
    if name == "password" and response.status_code == 200:
        known["password"] = case.body["new_password"]
    if response.status_code == 401 or name in ("logout", "password", "sessions_end") and response.status_code < 300:
        known["token"] = None
    learn(name, response)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    # Envoy knows the methods of RFC 9110 and refuses others before there is a route.
    return not (response.status_code == 400 and failure.title == "Wrong response to undeclared method" and response.request.method == "QUERY")


@atexit.register
def write_tally():
    with open(TALLY, "w") as f:
        json.dump(tally, f)
