#!/usr/bin/env python3
"""A data plane's reader of the snapshot in Redis, in nothing but Python's standard library.

It loads, follows, verifies and reports what the control plane publishes, as a balancer in any
language would. On standard input it takes questions, one JSON object a line, and answers each
with a line: {"op": "position"} or {"op": "get", "kind": "keys", "key": "<sha256>"}.

    EZ_REDIS_ADDR=127.0.0.1:6379 EZ_REDIS_PREFIX=ezapi EZ_SYNC_KEYS=none ./reader.py
"""
import base64, hashlib, hmac, json, os, secrets, socket, sys, threading, time

KINDS = ("providers", "models", "bindings", "keys")
PREFIX = "{%s}:" % os.environ.get("EZ_REDIS_PREFIX", "ezapi")


class Damaged(Exception):
    """What is published does not fit together."""


class Redis:
    """One connection, speaking RESP2."""

    def __init__(self):
        host, port = os.environ.get("EZ_REDIS_ADDR", "127.0.0.1:6379").rsplit(":", 1)
        self.file = socket.create_connection((host, int(port)), timeout=10).makefile("rwb")

    def __call__(self, *args):
        args = [str(a).encode() for a in args]
        self.file.write(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        self.file.flush()
        return self.answer()

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


def hash_of(seal, kind, key, doc):
    content = b"\0".join(part.encode() for part in (kind, key, doc))
    digest = hmac.digest(SUBKEYS[seal][0], content, "sha256") if seal else hashlib.sha256(content).digest()
    return int.from_bytes(digest, "big")


def fields(flat):
    return dict(zip(flat[::2], flat[1::2]))


def position(text):
    return tuple(int(n) for n in text.split("-"))  # compares as positions do: the epoch first


class View:
    """Everything published at one position. It never changes."""

    def __init__(self, head, at, docs, total):
        self.head, self.at, self.docs, self.digest = head, at, docs, "%064x" % total
        self.total, self.text = total, "%d-%d" % at

    def verify(self):
        """Checks digest, signature and counts against the head."""
        counts = {}
        for kind, _ in self.docs:
            counts[kind] = counts.get(kind, 0) + 1
        seal, sig = self.head["seal"], ""
        if seal:
            text = "%d|%d|%s|%s" % (*self.at, self.head["mark"], self.digest)
            sig = hmac.new(SUBKEYS[seal][1], text.encode(), "sha256").hexdigest()
        elif SUBKEYS:
            raise Damaged("damaged: nothing is signed, though there are sync keys")
        if (self.digest, sig, counts) != (self.head["digest"], self.head["sig"], json.loads(self.head["counts"])):
            raise Damaged("damaged: the documents at %s are not those of the head" % self.text)
        return self

    def apply(self, entry):
        """Returns the view after an entry of the stream, unverified; None when it does not follow."""
        if entry["from"] != self.text or entry["reset"] == "1" or entry["seal"] != self.head["seal"]:
            return None
        docs, total, seal = dict(self.docs), self.total, entry["seal"]
        for change in json.loads(entry["changes"]):
            name = (change["kind"], change["key"])
            if name in docs:
                total -= hash_of(seal, *name, docs.pop(name))
            if change["op"] == "put":
                docs[name] = change["doc"]
                total += hash_of(seal, *name, change["doc"])
        return View(entry, position(entry["to"]), docs, total % 2**256)


def read_head(redis):
    head = fields(redis("HGETALL", PREFIX + "head"))
    return head and (head, (int(head["epoch"]), int(head["revision"])))


def load(redis, old):
    """Returns a whole view at least as new as the old one; the old one when there is none."""
    for _ in range(20):
        found = read_head(redis)
        if not found:
            return old  # a missing head is never an empty catalog
        head, at = found
        if head["seal"] and head["seal"] not in SUBKEYS:
            raise Damaged("the sync key %s is not among ours" % head["seal"])
        docs = {}
        for kind in KINDS:
            cursor = "0"
            while True:
                cursor, page = redis("HSCAN", PREFIX + kind, cursor, "COUNT", 1000)
                docs.update(((kind, key), doc) for key, doc in fields(page).items())
                if cursor == "0":
                    break
        end, end_at = read_head(redis) or found
        if end_at == at:
            view = View(end, at, docs, sum(hash_of(end["seal"], *name, doc) for name, doc in docs.items()) % 2**256)
            return admit(old, view.verify())
        # The catalog has moved meanwhile: what was read is a mix, until the entries since are put over it.
        entries = [fields(e[1]) for e in redis("XRANGE", PREFIX + "changes", "(%d-%d" % at, "%d-%d" % end_at)]
        chain = [at] + [position(e["to"]) for e in entries]
        whole = all(position(e["from"]) == before and e["reset"] == "0" for e, before in zip(entries, chain))
        if whole and chain[-1] == end_at:
            for change in [c for e in entries for c in json.loads(e["changes"])]:
                docs.pop((change["kind"], change["key"]), None)
                if change["op"] == "put":
                    docs[change["kind"], change["key"]] = change["doc"]
            total = sum(hash_of(end["seal"], *name, doc) for name, doc in docs.items()) % 2**256
            return admit(old, View(end, end_at, docs, total).verify())
    raise Damaged("the catalog moves too fast")


def admit(old, new):
    """Refuses what would go back, and what is empty though nobody wanted that."""
    if old and new.at < old.at:
        raise Damaged("what is published is at %s, before %s" % (new.text, old.text))
    if old and old.docs and not new.docs and new.head["forced"] != "1":
        raise Damaged("what is published is empty, and nobody forced that")
    return new


class Reader(threading.Thread):
    """Follows the snapshot; view is always the latest good one, None before the first."""

    def __init__(self):
        super().__init__(daemon=True)
        self.view, self.error, self.node = None, "", "reader-" + secrets.token_hex(4)

    def run(self):
        strikes = 0
        while True:
            try:
                redis = Redis()
                while True:
                    try:
                        self.view = load(redis, self.view)
                        self.error, strikes = "", 0
                    except Damaged as problem:
                        strikes += 1
                        self.error = str(problem) if strikes > 1 else ""  # twice, before it is believed
                        time.sleep(min(0.1 * strikes, 2))
                    self.report(redis)
                    self.follow(redis)
            except (OSError, RuntimeError, ValueError, KeyError) as problem:
                print("reader:", repr(problem), file=sys.stderr)
                time.sleep(0.2)

    def follow(self, redis):
        """Applies entry by entry; returns when the whole has to be loaded."""
        beat = time.monotonic()
        while self.view:
            answer = redis("XREAD", "BLOCK", 500, "COUNT", 100, "STREAMS", PREFIX + "changes", self.view.text)
            for _, flat in answer[0][1] if answer else []:
                entry = fields(flat)
                view = self.view.apply(entry)
                try:
                    if view is None:
                        return
                    self.view = view.verify()
                except Damaged:
                    return
            if time.monotonic() - beat > 2 or answer:
                self.report(redis)
                beat = time.monotonic()
            if not answer:
                found = read_head(redis)
                if found and (found[1] != self.view.at or found[0]["digest"] != self.view.digest):
                    return  # somewhere else, and nothing leads there
        time.sleep(0.1)

    def report(self, redis):
        seconds, micros = redis("TIME")
        at, digest = (self.view.text, self.view.digest) if self.view else ("0-0", "0" * 64)
        node = {"position": at, "digest": digest, "version": "reader.py", "error": self.error,
                "seen_at": float("%s.%06d" % (seconds, int(micros)))}
        redis("HSET", PREFIX + "nodes", self.node, json.dumps(node))


def main():
    reader = Reader()
    reader.start()
    for line in sys.stdin:
        question, view = json.loads(line), reader.view
        if question["op"] == "position":
            answer = {"position": view and view.text, "digest": view and view.digest}
        else:
            answer = {"doc": view and view.docs.get((question["kind"], question["key"]))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
