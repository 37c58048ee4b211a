#!/usr/bin/env python3
"""A data plane's reader of the snapshot in Redis, in nothing but Python's standard library.

It loads, follows, verifies and reports what control planes publish, as a balancer in any language
would; docs/balancers.md says why. On standard input it takes questions, one JSON object a line,
and answers each with a line: {"op": "position"}, {"op": "get", "kind": "keys", "key": "<sha256>"} or
{"op": "route", "key": "<sha256>", "model": "openai/gpt-4o"}.

    EZ_REDIS_ADDR=127.0.0.1:6379 EZ_REDIS_PREFIX=ezapi EZ_SYNC_KEYS=none ./reader.py
"""
import base64, hashlib, hmac, json, os, random, re, secrets, socket, sys, threading, time
from datetime import datetime

KINDS = ("bindings", "holds", "keys", "models", "projects", "providers")  # of documents that this program knows
PREFIX = "{%s}:" % os.environ.get("EZ_REDIS_PREFIX", "ezapi")
MAX_STALE = float(os.environ.get("EZ_MAX_STALE", "0"))  # seconds; 0 is off
ENTRY = ("from", "to", "chain", "part", "last", "reset", "changes", "bytes")  # fields that are not the head's


class Damaged(Exception):
    """What is published does not fit together."""


class Refused(Exception):
    """What is published is whole, and not taken all the same."""


class Redis:
    """One connection, speaking RESP2."""

    def __init__(self):
        host, port = os.environ.get("EZ_REDIS_ADDR", "127.0.0.1:6379").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=40)  # longer than any BLOCK
        self.file = self.socket.makefile("rwb")

    def __call__(self, *args):
        return self.pipeline(args)[0]

    def pipeline(self, *commands):
        for args in commands:
            args = [str(a).encode() for a in args]
            self.file.write(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        self.file.flush()
        return [self.answer() for _ in commands]

    def answer(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("Redis has closed the connection")
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(text)
        if kind == b"$":
            return None if text == "-1" else self.file.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return None if text == "-1" else [self.answer() for _ in range(int(text))]
        return int(text) if kind == b":" else text


def subkeys():
    """Returns id → (digest key, signature key); HKDF-SHA-256 without salt. Without sync keys: none."""
    keys, listed = {}, os.environ.get("EZ_SYNC_KEYS", "none")
    for item in [] if listed == "none" else listed.split(","):
        name, text = item.split(":", 1)
        prk = hmac.digest(bytes(32), base64.b64decode(text), "sha256")
        keys[name] = [hmac.digest(prk, b"ezapi " + info + b"\x01", "sha256") for info in (b"digest", b"sig")]
    return keys


SUBKEYS = subkeys()


def signature(seal, what, fields):
    """Returns the signature of a head, a beat or a node: of every field but sig, known or not, as it was read."""
    text = what + "\n" + "".join("%s=%s\n" % (n, fields[n]) for n in sorted(fields) if n != "sig")
    return hmac.new(SUBKEYS[seal][1], text.encode(), "sha256").hexdigest()


def verify(what, fields):
    """Checks the signature. Without sync keys there is none."""
    for name, value in fields.items():
        if not re.fullmatch("[a-z_]{1,32}", name) or re.search("[\x00-\x1f\x7f]", value):
            raise Damaged("damaged: a field of the %s could be taken for another" % what)
    seal = fields.get("seal", "")
    if not SUBKEYS and not seal:
        return
    if seal not in SUBKEYS:
        raise Refused("the %s names the sync key %r, which is not among ours" % (what, seal))
    if not hmac.compare_digest(fields.get("sig", ""), signature(seal, what, fields)):
        raise Damaged("damaged: the signature of the %s is wrong" % what)


def hash_of(seal, kind, key, doc):
    """Returns what a document adds to the sum of its kind."""
    content = b"\0".join(part.encode() for part in (kind, key, doc))
    digest = hmac.digest(SUBKEYS[seal][0], content, "sha256") if seal else hashlib.sha256(content).digest()
    return int.from_bytes(digest, "big")


def published(seal, kind, total):
    """Returns the digest that is published of the sum of a kind."""
    total = (total % 2**256).to_bytes(32, "big")
    return (hmac.digest(SUBKEYS[seal][0], b"sum\0" + kind.encode() + b"\0" + total, "sha256") if seal else total).hex()


def position(text):
    """Compares as positions do: the epoch first."""
    if not re.fullmatch(r"\d{1,19}-\d{1,19}", text):
        raise Damaged("damaged: a position cannot be read")
    return tuple(int(n) for n in text.split("-"))


def fields_of(flat):
    return dict(zip(flat[::2], flat[1::2]))


class Head:
    """What is published at one position. fields are as they were read, but stream_bytes."""

    def __init__(self, fields):
        self.fields = {n: v for n, v in fields.items() if n != "stream_bytes"}
        try:
            self.at = position("%s-%s" % (fields["epoch"], fields["revision"]))
            self.text = "%d-%d" % self.at
            self.seal, self.store, self.sig = fields["seal"], fields["store"], fields["sig"]
            self.counts, self.digest = json.loads(fields["counts"]), json.loads(fields["digest"])
            self.forced, self.format = fields["forced"] == "1", int(fields["format"])
            self.known = sum(int(self.counts.get(k, 0)) for k in KINDS)
        except (KeyError, ValueError, TypeError, AttributeError) as problem:
            raise Damaged("damaged: the head cannot be read: %r" % problem)

    def check(self):
        if self.format != 1:
            raise Refused("what is published has format %d, this program reads 1" % self.format)
        verify("head", self.fields)
        return self


class View:
    """Everything of the known kinds at one position. It never changes once it is served."""

    def __init__(self, head, docs=None, sums=None):
        self.head, self.docs, self.sums = head, docs or {}, sums or dict.fromkeys(KINDS, 0)

    def take(self, changes):
        for kind, key, doc in changes:
            if kind not in KINDS:
                continue  # a kind of a later version
            name = (kind, key)
            if name in self.docs:
                self.sums[kind] -= hash_of(self.head.seal, *name, self.docs.pop(name))
            if doc is not None:
                self.docs[name] = doc
                self.sums[kind] += hash_of(self.head.seal, *name, doc)

    def after(self, head, changes):
        """Returns the view after changes, if it is just what the head says."""
        head.check()
        if head.seal != self.head.seal:
            raise Damaged("damaged: the sync key has changed without a whole publish")
        view = View(head, dict(self.docs), dict(self.sums))
        view.take(changes)
        for kind, key, doc in changes:
            try:
                if kind in KINDS and doc is not None and not isinstance(json.loads(doc), dict):
                    raise ValueError
            except ValueError:
                raise Damaged("damaged: a document of %s is no JSON object" % kind)
        return view.fits()

    def fits(self):
        counts = dict.fromkeys(KINDS, 0)
        for kind, _ in self.docs:
            counts[kind] += 1
        for kind in KINDS:
            if counts[kind] != self.head.counts.get(kind, 0):
                raise Damaged("damaged: %d documents of %s at %s" % (counts[kind], kind, self.head.text))
            if kind in self.head.digest and published(self.head.seal, kind, self.sums[kind]) != self.head.digest[kind]:
                raise Damaged("damaged: the digest of %s at %s is wrong" % (kind, self.head.text))
        return self


class Parts:
    """Puts together the parts of the publish that leads on from a position."""

    def __init__(self, at):
        self.at, self.chain, self.kept, self.next = at, None, [], 1

    def add(self, flat):
        """Takes the next entry. Returns head and changes with the last part, before that None."""
        entry = fields_of(flat)
        try:
            changes = [(c["kind"], c["key"], c["doc"] if c["op"] == "put" else None) for c in json.loads(entry["changes"])]
            start, to, chain, part = entry["from"], position(entry["to"]), entry["chain"], int(entry["part"])
            last, reset = entry["last"] == "1", entry["reset"] == "1"
        except (KeyError, ValueError, TypeError) as problem:
            raise Damaged("damaged: an entry cannot be read: %r" % problem)
        if reset or start != self.at or to <= position(start):
            raise Damaged("an entry does not lead on from %s" % self.at)
        if chain != self.chain:  # those of another chain were given up
            self.chain, self.kept, self.next = chain, [], 1
        if part != self.next:
            raise Damaged("a part of a publish is missing")
        self.kept, self.next = self.kept + changes, part + 1
        if not last:
            return None
        head = Head({n: v for n, v in entry.items() if n not in ENTRY})
        if head.at != to:
            raise Damaged("damaged: an entry leads elsewhere than its head says")
        return head, self.kept


def read_head(redis):
    found = redis("HGETALL", PREFIX + "head")
    return Head(fields_of(found)) if found else None


def entries(redis, after, block=None):
    wait = ["BLOCK", block] if block else []
    answer = redis("XREAD", *wait, "COUNT", 100, "STREAMS", PREFIX + "changes", after)
    return answer[0][1] if answer else []


def replay(redis, head, changes, ready):
    """Adds what lies after the head to the changes, publish by publish, until ready says that it is enough."""
    parts, last, patience = Parts(head.text), head.text + "999", time.monotonic() + 10
    while not ready(head, changes):
        found = entries(redis, last)
        for last, flat in found:
            closed = parts.add(flat)
            if closed:
                head, more = closed
                changes, parts, last = changes + more, Parts(head.text), head.text + "999"
                break
        if not found:
            if not parts.kept or time.monotonic() > patience:
                break  # nothing is under way
            time.sleep(0.1)
    return head, changes


def load(redis, admit):
    """Returns a view of everything that is published; None when nothing is."""
    start = read_head(redis)
    if not start:
        return None
    admit(start.check())  # before everything is read for nothing
    changes = []
    for kind in KINDS:
        cursor = "0" if kind in start.counts else None  # a kind that the head does not count has no documents
        while cursor is not None:
            cursor, page = redis("HSCAN", PREFIX + kind, cursor, "COUNT", 1000)
            changes += [(kind, key, doc) for key, doc in fields_of(page).items()]
            cursor = None if cursor == "0" else cursor
    end = read_head(redis) or start
    head, changes = replay(redis, start, changes, lambda head, _: head.at >= end.at)
    if head.at != end.at:
        raise Damaged("what was published while loading is not in the stream")

    def whole(head, changes):
        try:
            return View(head).after(head, changes)
        except Damaged:
            return None  # some documents may be of a publish that is under way

    head, changes = replay(redis, end, changes, whole)
    admit(head.check())
    return View(head).after(head, changes)


class Reader:
    """Follows the snapshot; view is always the latest good one, None before the first."""

    def __init__(self):
        self.view, self.error, self.strikes, self.node = None, "", 0, "reader-" + secrets.token_hex(4)
        self.beat, self.ahead = None, []  # the beat that counts, and those of later positions
        self.live, self.news, self.elsewhere, self.following = 1, threading.Event(), None, None
        self.reporting, self.left = threading.Lock(), False  # once it has left, no report comes

    def start(self):
        for loop in (self.follow_always, self.report_always):
            threading.Thread(target=loop, daemon=True).start()

    def outdated(self):
        return MAX_STALE > 0 and (not self.beat or abs(time.time() - self.beat) > MAX_STALE)

    # Following.

    def follow_always(self):
        while True:
            try:
                redis = self.following = Redis()
                while True:
                    self.load(redis)
                    self.follow(redis)
            except (OSError, RuntimeError) as problem:
                print("reader:", repr(problem), file=sys.stderr)
                time.sleep(random.uniform(0.05, 0.5))

    def load(self, redis):
        while True:
            try:
                if MAX_STALE and not self.view:
                    self.learn(redis("GET", PREFIX + "beat"))
                view = load(redis, self.admit)
                if view and (not self.view or view.head.at != self.view.head.at):
                    self.serve(view)
                if view or not self.view:
                    self.error, self.strikes = "", 0
                    return
                self.error = "Redis has lost what was published"
            except (Damaged, Refused) as problem:
                self.strikes += 1
                self.error = str(problem) if self.strikes > 1 else ""  # twice, before it is believed
                self.news.set()
            time.sleep(random.uniform(0.5, 1) * min(0.2 * 2 ** min(self.strikes, 5), 5))

    def admit(self, head):
        """Refuses what would go back, or comes from elsewhere, or is empty though nobody wanted that."""
        if not self.view:
            fresh = [b for b in self.ahead if b[0] <= head.at and b[2] == head.store and abs(time.time() - b[1]) <= MAX_STALE]
            if MAX_STALE and not fresh:
                raise Refused("no control plane has confirmed what is published at " + head.text)
            return
        old = self.view.head
        if head.at < old.at:
            raise Refused("what is published is at %s, before %s" % (head.text, old.text))
        if head.at == old.at and head.fields != old.fields:
            raise Damaged("damaged: what is published at %s is not what was published there before" % head.text)
        if head.store != old.store and not head.forced:
            raise Refused("what is published is another catalog's, and nobody forced that")
        if old.known and not head.known and not head.forced:
            raise Refused("what is published is empty, and nobody forced that")

    def serve(self, view):
        self.view = view
        self.count_beats()
        self.news.set()

    def follow(self, redis):
        """Applies publish by publish; returns when the whole has to be loaded."""
        reread = False
        while True:
            at = self.view.head.text if self.view else "0-0"
            parts, last = Parts(at), at + "999"
            try:
                while True:
                    found = entries(redis, last, 1000 if parts.kept else random.randint(20000, 30000))
                    if not self.view and found:
                        return
                    if not found and parts.kept:
                        last, parts = at + "999", Parts(at)  # the publish may have been given up
                    for last, flat in found:
                        closed = parts.add(flat)
                        if closed:
                            head, changes = closed
                            if head.store != self.view.head.store:
                                raise Damaged("an entry is another catalog's")
                            self.serve(self.view.after(head, changes))
                            self.error, self.strikes, reread = "", 0, False
                            at = head.text
                            parts, last = Parts(at), at + "999"
                            break  # the rest is read again from there
            except (Damaged, Refused):
                if reread:
                    time.sleep(random.uniform(0, min(max(0.01 * self.live, 0.25), 10)))
                    return
                reread = True  # once more, from where this is
                time.sleep(random.uniform(0.05, 0.15))

    # Beats and reports.

    def learn(self, text):
        """Takes a beat: all that was committed before its time is in its position."""
        try:
            beat = json.loads(text)
            verify("beat", beat)
            at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", beat["at"]).replace("Z", "+00:00")).timestamp()
            self.ahead = self.ahead[-60:] + [(position(beat["position"]), at, beat["store"])]
        except (TypeError, ValueError, KeyError, AttributeError, Damaged, Refused):
            return  # none, or one that cannot be relied on
        self.count_beats()

    def count_beats(self):
        head, waiting = self.view and self.view.head, []
        for beat in self.ahead:
            if head and beat[0] <= head.at and beat[2] == head.store:
                self.beat = max(self.beat or 0, beat[1])
            else:
                waiting.append(beat)
        self.ahead = waiting

    def report_always(self):
        while True:
            try:
                redis = Redis()
                while True:
                    self.news.clear()
                    with self.reporting:
                        if self.left:
                            return
                        self.report(redis)
                    share = min(self.live / 2000, 12)  # of all nodes' 2,000 reports a second
                    time.sleep(max(1, share) * random.uniform(1, 1.1))
                    if not self.elsewhere:
                        self.news.wait(max(3.5, share - 1) * random.uniform(0.9, 1.1))
            except (OSError, RuntimeError) as problem:
                print("reader: report:", repr(problem), file=sys.stderr)
                time.sleep(random.uniform(0.5, 1.5))

    def leave(self):
        """Takes the report away, so that nobody waits for this one, and lets no other come after it."""
        with self.reporting:
            self.left = True
            Redis().pipeline(["HDEL", PREFIX + "nodes", self.node], ["ZREM", PREFIX + "nodes:seen", self.node])

    def report(self, redis):
        head = self.view.head if self.view else None
        seal = head.seal if head else next(iter(SUBKEYS), "")
        report = {"id": self.node, "position": head.text if head else "0-0", "head": head.sig if head else "",
                  "version": "reader.py", "error": re.sub("[\x00-\x1f\x7f]", " ", self.error)[:1024],
                  "kinds": ",".join(KINDS), "store": head.store if head else ""}
        report["sig"] = signature(seal, "node", report) if seal else ""
        nodes, index = PREFIX + "nodes", PREFIX + "nodes:seen"
        seconds, micros = redis("TIME")  # Redis' clock, not this machine's
        now = "%s.%06d" % (seconds, int(micros))
        _, _, self.live, base, beat = redis.pipeline(
            ["HSET", nodes, self.node, json.dumps({**report, "seen_at": now})], ["ZADD", index, now, self.node],
            ["ZCOUNT", index, int(seconds) - 15, "+inf"],
            ["HMGET", PREFIX + "head", "epoch", "revision", "sig"], ["GET", PREFIX + "beat"])
        self.learn(beat)
        own = [head.fields["epoch"], head.fields["revision"], head.sig] if head else [None] * 3
        found = None if base == own else own
        if found and found == self.elsewhere:  # twice, and no entry has come: end the blocking read
            self.elsewhere = None
            self.following.socket.shutdown(socket.SHUT_RDWR)
        else:
            self.elsewhere = found


def names(namespace, model):
    """Yields, in their order, the keys of the documents that a model's name may mean; what is asked for
    without its namespace; and what the star at the end of the document's name stands for."""
    if "*" in model or len(model.encode()) > 256 or model.count("/") > 8:
        return
    places, (other, dot, rest) = [(namespace, model)], model.partition(".")
    if dot and "/" not in other:
        places.append((other, rest))
    for space, asked in places:
        yield space + "." + asked, asked, ""
    for slashes in range(model.count("/"), -1, -1):
        for space, asked in places:
            path = "".join(part + "/" for part in asked.split("/")[:slashes])
            yield space + "." + path + "*", asked, asked[len(path):]


def allows(allowed, asked):
    """Reports whether a list allows what is asked for: an empty one allows all, and * ends any beginning."""
    return not allowed or any(
        listed == asked or listed.endswith("*") and asked.startswith(listed[:-1]) for listed in allowed)


def route(view, token, model):
    """Returns the status of a client's request, and what each provider that may serve it calls the model. A
    balancer would order them by priority and weight too, and look at the address and the limits of the key."""
    key = json.loads(view.docs.get(("keys", token), "{}"))
    if key.get("status") != "active":
        return 401, {}
    found = None
    for name, asked, star in names(key["default_namespace"], model):
        document = view.docs.get(("bindings", name))
        if document:
            found = json.loads(document)
            break
    if not found:
        return 404, {}
    if found["namespace"] not in key["namespaces"] or not allows(key.get("models"), asked):
        return 403, {}
    if found["status"] != "active":
        return 404, {}
    targets = {}
    for candidate in found["candidates"]:
        if candidate["route_group"] != key["group"] or candidate["status"] != "active":
            continue
        for provider, upstream in candidate.get("upstreams", {}).items():
            document = json.loads(view.docs.get(("providers", provider), "{}"))
            if document.get("status") == "active" and not document.get("error"):
                if upstream.endswith("*") and found["public_model"].endswith("*"):
                    upstream = upstream[:-1] + star
                targets.setdefault(provider, upstream)
    return (200 if targets else 503), targets


def main():
    reader = Reader()
    reader.start()
    for line in sys.stdin:
        question, view = json.loads(line), reader.view
        if question["op"] == "position":
            answer = {"position": view and view.head.text, "outdated": reader.outdated(),
                      "digest": view and {k: published(view.head.seal, k, view.sums[k]) for k in KINDS}}
        elif question["op"] == "route":
            status, targets = route(view, question["key"], question["model"]) if view else (503, {})
            answer = {"status": status, "targets": targets}
        else:
            answer = {"doc": view and view.docs.get((question["kind"], question["key"]))}
        print(json.dumps(answer), flush=True)
    reader.leave()


if __name__ == "__main__":
    main()
