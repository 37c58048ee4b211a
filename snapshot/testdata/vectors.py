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


def digest(docs, key):
    total = 0
    for d in docs:
        text = d["kind"].encode() + b"\0" + d["key"].encode() + b"\0" + d["doc"].encode()
        h = hmac.digest(key, text, "sha256") if key else hashlib.sha256(text).digest()
        total += int.from_bytes(h, "big")
    return f"{total % 2**256:064x}"


KEY_ID = "k1"
KEY = bytes(range(32))
keys = {use: hkdf(KEY, b"ezapi " + use.encode()) for use in ("seal", "nonce", "digest", "sig")}

secrets = [
    {"plaintext": p, "additional_data": ad, "sealed": seal(keys, p, ad)}
    for p, ad in [
        ("sk-0123456789abcdef", "provider/7/api_key"),
        ("sk-0123456789abcdef", "provider/8/api_key"),
        ('{"type":"service_account","project_id":"größer"}', "provider/9/api_key"),
    ]
]

docs = [
    {"kind": "providers", "key": "7", "doc": '{"id":7,"name":"openai","api_key":"%s"}' % secrets[0]["sealed"]},
    {"kind": "models", "key": "default.gpt-4o", "doc": '{"namespace":"default","name":"gpt-4o","input_price":"2.5"}'},
    {"kind": "bindings", "key": "default.gpt-4o", "doc": '{"namespace":"default","public_model":"gpt-4o","candidates":[]}'},
    {"kind": "keys", "key": hashlib.sha256(b"token").hexdigest(), "doc": '{"id":1,"name":"Jürgen \\u0000"}'},
]

heads = []
for epoch, revision, mark in [(1700000000, 42, "00112233445566778899aabbccddeeff"), (1, 0, "")]:
    d = digest(docs, keys["digest"])
    text = f"{epoch}|{revision}|{mark}|{d}"
    heads.append({
        "epoch": epoch, "revision": revision, "mark": mark, "digest": d,
        "sig": hmac.digest(keys["sig"], text.encode(), "sha256").hex(),
    })

print(json.dumps({
    "sync_keys": f"{KEY_ID}:{base64.b64encode(KEY).decode()}",
    "subkeys": {use: key.hex() for use, key in keys.items()},
    "secrets": secrets,
    "documents": docs,
    "hashes": [digest([d], keys["digest"]) for d in docs],
    "hashes_without_key": [digest([d], None) for d in docs],
    "digest": digest(docs, keys["digest"]),
    "digest_without_key": digest(docs, None),
    "heads": heads,
}, indent=2, ensure_ascii=False))
