#!/usr/bin/env python3
"""Computes vectors.json, without any code of this module: what a data plane in
another language has to arrive at. HKDF, HMAC and digest need the standard
library alone; sealing needs the package "cryptography".

    python3 vectors.py > vectors.json
"""
import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def hkdf(key, info):  # RFC 5869, SHA-256, no salt, 32 bytes
    prk = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def seal(keys, plaintext, additional_data):
    ad = additional_data.encode()
    nonce = hmac.digest(keys["nonce"], ad + b"\0" + plaintext.encode(), "sha256")[:12]
    sealed = nonce + AESGCM(keys["seal"]).encrypt(nonce, plaintext.encode(), ad)
    return f"enc:v1:{KEY_ID}:" + base64.b64encode(sealed).decode()


def hashed(doc, key):
    text = doc["kind"].encode() + b"\0" + doc["key"].encode() + b"\0" + doc["doc"].encode()
    return hmac.digest(key, text, "sha256") if key else hashlib.sha256(text).digest()


def digests(docs, key):
    """What is published: for each kind an HMAC of the sum, or without a key the sum."""
    published = {}
    for kind in KINDS:
        hashes = (int.from_bytes(hashed(d, key), "big") for d in docs if d["kind"] == kind)
        total = (sum(hashes) % 2**256).to_bytes(32, "big")
        if key:
            total = hmac.digest(key, b"sum\0" + kind.encode() + b"\0" + total, "sha256")
        published[kind] = total.hex()
    return published


def sign(what, fields, unsigned=("sig", "stream_bytes", "seen_at")):
    text = what + "\n" + "".join(f"{n}={fields[n]}\n" for n in sorted(fields) if n not in unsigned)
    return hmac.digest(keys["sig"], text.encode(), "sha256").hex()


def signed(what, fields):
    return {**fields, "sig": sign(what, fields)}


KINDS = ("bindings", "keys", "models", "providers", "sockets")
KEY_ID = "k1"
KEY = bytes(range(32))
keys = {use: hkdf(KEY, b"ezapi " + use.encode()) for use in ("seal", "nonce", "digest", "sig")}


def bound(id, type, base_url="", project="", location="", options="{}"):
    return "\0".join([f"provider/{id}/api_key", type, base_url, project, location, options])


secrets = [
    {"plaintext": p, "additional_data": ad, "sealed": seal(keys, p, ad)}
    for p, ad in [
        ("sk-0123456789abcdef", bound(7, "openai")),
        ("sk-0123456789abcdef", bound(7, "openai", "https://moved.example")),
        ("sk-0123456789abcdef", bound(8, "openai")),
        ('{"type":"service_account","project_id":"größer"}', bound(9, "vertex", "", "my-project", "global")),
    ]
]

docs = [
    {"kind": "providers", "key": "7", "doc": '{"id":7,"name":"openai","api_key":"%s"}' % secrets[0]["sealed"]},
    {"kind": "models", "key": "default.gpt-4o", "doc": '{"namespace":"default","name":"gpt-4o","input_price":"2.5"}'},
    {"kind": "bindings", "key": "default.gpt-4o", "doc": '{"namespace":"default","public_model":"gpt-4o","candidates":[]}'},
    {"kind": "keys", "key": hashlib.sha256(b"token").hexdigest(), "doc": '{"id":1,"name":"Jürgen \\u0000"}'},
]

def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


counts = {kind: sum(d["kind"] == kind for d in docs) for kind in KINDS}
head = {
    "format": "1", "store": "8c3ad5e5-6d0c-4dc5-93a0-7f2b40b5a1b0", "epoch": "1700000000", "revision": "42",
    "mark": "00112233445566778899aabbccddeeff", "counts": compact(counts),
    "digest": compact(digests(docs, keys["digest"])), "seal": KEY_ID, "renderer": "1",
    "updated_at": "2026-01-02T03:04:05.678901Z", "forced": "0",
}
beat = {"store": head["store"], "position": "1700000000-42", "at": "2026-01-02T03:04:07.5Z", "seal": KEY_ID}
node = {
    "id": "balancer-1 é", "position": "1700000000-42", "head": sign("head", head), "version": "1.2.3", "error": "",
    "kinds": "bindings,keys,models,providers", "store": head["store"],
}


def cases(what, fields, unsigned):
    """Texts that a reader takes, and texts that it refuses, all with a signature that is right for
    the text that a careless reader would verify."""
    other = signed(what, {**fields, "store": "somebody"})
    return [
        {"about": "as it is published", "fields": signed(what, fields), "good": True},
        {"about": "a field that is not known", "fields": signed(what, {**fields, "zone": "a=b"}), "good": True},
        {"about": "what an engine keeps beside it", "fields": {**signed(what, fields), **unsigned}, "good": True},
        {"about": "a name with =", "fields": {**fields, "zone=a": "b", "sig": sign(what, {**fields, "zone": "a=b"})},
         "good": False},
        {"about": "two fields merged into one",
         "fields": {**fields, "zone": "1\nzone_b=2", "sig": sign(what, {**fields, "zone": "1", "zone_b": "2"})},
         "good": False},
        {"about": "a name with a capital", "fields": signed(what, {**fields, "Zone": "1"}), "good": False},
        {"about": "another store", "fields": {**other, "store": fields["store"]}, "good": False},
        {"about": "the signature of something else", "fields": {**fields, "sig": sign("else", fields)}, "good": False},
        {"about": "no signature", "fields": fields, "good": False},
    ]


print(json.dumps({
    "sync_keys": f"{KEY_ID}:{base64.b64encode(KEY).decode()}",
    "subkeys": {use: key.hex() for use, key in keys.items()},
    "secrets": secrets,
    "documents": docs,
    "hashes": [hashed(d, keys["digest"]).hex() for d in docs],
    "hashes_without_key": [hashed(d, None).hex() for d in docs],
    "digest": digests(docs, keys["digest"]),
    "digest_without_key": digests(docs, None),
    "heads": cases("head", head, {"stream_bytes": "123"}),
    "beats": cases("beat", beat, {}),
    "nodes": cases("node", node, {"seen_at": "1767323045.678901"}),
}, indent=2, ensure_ascii=False))
