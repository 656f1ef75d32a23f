#!/usr/bin/python3
"""A cloud for the exec provider: hosts that there are, of which some are somebody's instances. Its state is files below `config.dir`."""
import json, os, sys, time

request = json.load(sys.stdin)
place = request["config"]["dir"]
operation = request["operation"]
with open(os.path.join(place, "calls"), "a") as calls:
    calls.write(json.dumps(request) + "\n")


def path(*names):
    return os.path.join(place, *names)


def answer(**value):
    print(json.dumps(value))
    sys.exit(0)


# What goes wrong: `refuse`, `hang`, or text that is printed instead of an answer.
if os.path.exists(path("trouble", operation)):
    with open(path("trouble", operation)) as file:
        trouble = file.read()
    if trouble == "refuse":
        sys.exit("the cloud says no")
    if trouble == "hang":
        time.sleep(600)
    print(trouble)
    sys.exit(0)

if operation == "list":
    states = []
    for name in sorted(os.listdir(path("instances"))):
        with open(path("instances", name)) as file:
            states.append({"id": name, "state": json.load(file)["state"]})
    answer(instances=states)
if operation == "grow":
    made = 0
    for host in sorted(os.listdir(path("hosts"))):
        if made == request["count"]:
            break
        try:
            os.mkdir(path("taken", host))
        except FileExistsError:
            continue
        count = len(os.listdir(path("names")))
        name = f"i-{count}-{host}"
        open(path("names", name), "w").close()
        with open(path("instances", "." + name), "w") as file:
            json.dump({"state": "running", "host": host}, file)
        os.rename(path("instances", "." + name), path("instances", name))
        made += 1
    answer(count=made)
if operation == "shrink":
    for name in request["ids"]:
        try:
            with open(path("instances", name)) as file:
                host = json.load(file)["host"]
            os.remove(path("instances", name))
            os.rmdir(path("taken", host))
        except FileNotFoundError:
            pass
    answer()
if operation in ("connect", "check"):
    try:
        with open(path("instances", request["id"])) as file:
            host = json.load(file)["host"]
    except FileNotFoundError:
        sys.exit(f"there is no instance {request['id']}")
    with open(path("hosts", host)) as file:
        answer(**(json.load(file) if operation == "connect" else {}))
answer()
