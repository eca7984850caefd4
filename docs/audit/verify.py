#!/usr/bin/env python3
"""Checks an export of toolgate's audit trail, as format.md describes it. Needs Python 3.9 or newer and nothing else.
Exit code 0: all is in order. 1: it is not, and the first row that is not as it was recorded is named. 2: not understood."""
import argparse, base64, datetime, functools, hashlib, json, re, sys

MAX_LINE = 16 * 1024 * 1024
TEXT, UUID, HASH = r'".*"', r'"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"', r'"[0-9a-f]{64}"'
NUMBER, TIME = r'"(0|[1-9][0-9]{0,19})"', r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"'
ROW = dict(position=NUMBER, stream_sequence=NUMBER, event_id=UUID, event_type=TEXT, event_version=r"0|[1-9][0-9]{0,9}",
           aggregate_type=TEXT, aggregate_id=UUID, aggregate_sequence=NUMBER, actor=TEXT, occurred_at=TIME, correlation_id=UUID,
           causation_id=UUID + "|null", data=r".*", prev_hash=TEXT, hash=HASH)
CHECKPOINT = dict(format='"toolgate/audit-checkpoint/v1"', tenant_id=UUID, position=NUMBER, hash=TEXT, partition="[0-9]{1,5}",
                  stream_sequence=NUMBER, signed_at=TIME, key_id=TEXT, signature=TEXT)

class Number(str): """A number as it is spelled."""
finding = lambda line, row, why: ValueError(f"line {line}, row {row}: {why}")
without = lambda value, member: canonical({name: value[name] for name in value if name != member}).encode("utf-8")

def canonical(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)
def parse(line, members):
    """The object on a line, if it has these members, each of its form, in the canonical spelling."""
    if len(line) >= MAX_LINE or not line.endswith(b"\n"):
        raise ValueError("the line is too long, or does not end with a newline")
    text = line[:-1].decode("utf-8")
    value = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=lambda name: float(name + " is no number"))
    if not isinstance(value, dict) or set(value) != set(members) or canonical(value) != text:
        raise ValueError("the line has not the members or the spelling it must have")
    for name, form in members.items():
        spelled = canonical(value[name])
        if not re.fullmatch(form, spelled, re.DOTALL) or form == NUMBER and int(value[name]) >= 2**64:
            raise ValueError(f"{name} has not the form it must have")
        form == TIME and datetime.datetime.strptime(spelled, '"%Y-%m-%dT%H:%M:%S.%fZ"')
    return value
def read_row(line):
    """A row's position, prev_hash and hash, if the hash is the one of its content; else why it is none."""
    try:
        row = parse(line, ROW)
        if hashlib.sha256(without(row, "hash")).hexdigest() == row["hash"]:
            return int(row["position"]), row["prev_hash"], row["hash"]
        return None, None, "its hash is not the one of its content"
    except (ValueError, RecursionError) as error:
        return None, None, error

def check(lines, first=1, heads=None, tenant=None):
    """Reads an iterator of lines. Answers with the last position and the newest signed one, or raises what it finds."""
    heads, number, last = heads or {}, 0, first - 1
    attested = last if last in heads else None
    before = heads.get(last) if last or not tenant else hashlib.sha256(f"toolgate/audit/v1/{tenant}".encode()).hexdigest()
    for number, line in enumerate(lines, 1):
        due = last + 1
        position, prev_hash, hash_ = read_row(line)
        if position is None:
            raise finding(number, due, f"it was changed: {hash_}")
        if position > due:
            at = next((at for at, other in enumerate(lines, number + 1) if read_row(other)[0] == due), None)
            raise finding(number, due, f"out of order: it stands on line {at}" if at else f"rows up to {position - 1} are missing")
        if position < due:
            raise finding(number, position, "a row was inserted: this position has been passed already")
        if before is not None and prev_hash != before:
            named = due if attested == last or number == 1 else last
            raise finding(number - (due - named), named, "it was rewritten, or is another chain's: its neighbours do not fit")
        if heads.get(due, hash_) != hash_:
            named = first if attested is None else attested + 1
            raise finding(number - (due - named), named, f"it, or a row up to {due}, was rewritten: {due} was signed otherwise")
        last, before, attested = due, hash_, due if due in heads else attested
    if max(heads, default=0) > last:
        raise finding(number + 1, last + 1, f"rows up to {max(heads)} are missing at the end, and were signed")
    return last, attested

# Ed25519 (RFC 8032, section 5.1). A point is (X, Y, Z, T) with x = X/Z, y = Y/Z and xy = T/Z.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)

def add(p, q):
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
def times(scalar, point):
    step = lambda total, bit: add(add(total, total), point) if bit == "1" else add(total, total)
    return functools.reduce(step, f"{scalar:b}", (0, 1, 1, 0))
def decode(data):
    y, sign = int.from_bytes(data, "little") & (1 << 255) - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("this is no point of the curve")
    return (x if x & 1 == sign else P - x), y
def verifies(key, text, signature):
    scalar = int.from_bytes(signature[32:], "little")
    (x, y), (bx, by) = decode(key), decode(bytes([0x58] + 31 * [0x66]))
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % L
    x, y, z, _ = add(times(scalar, (bx, by, 1, bx * by)), times(k, (P - x, y, 1, (P - x) * y)))
    point = y * pow(z, -1, P) % P | (x * pow(z, -1, P) % P & 1) << 255
    return len(signature) == 64 and scalar < L and point.to_bytes(32, "little") == signature[:32]

def public_keys(path):
    pem = open(path, encoding="ascii", errors="replace").read()
    ders = [base64.b64decode(body) for body in re.findall("-----BEGIN PUBLIC KEY-----([^-]*)-----END PUBLIC KEY-----", pem)]
    if not ders or any(len(der) != 44 or der[:12].hex() != "302a300506032b6570032100" for der in ders):
        raise OSError(f"{path} holds no Ed25519 public key, or another key beside it")
    url = lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")
    jwk = lambda der: f'{{"crv":"Ed25519","kty":"OKP","x":"{url(der[12:])}"}}'.encode()
    return {url(hashlib.sha256(jwk(der)).digest()): der[12:] for der in ders}
def read_checkpoints(lines, keys, tenant=None):
    heads, is_named = {}, tenant is not None
    for number, line in enumerate(lines, 1):
        try:
            value = parse(line, CHECKPOINT)
            tenant, signature = tenant or value["tenant_id"], base64.b64decode(value["signature"], validate=True)
            is_spelled = base64.b64encode(signature).decode() == value["signature"]
            if not is_spelled or not verifies(keys[value["key_id"]], without(value, "signature"), signature):
                raise ValueError("the signature is not the one of its key over this text")
            if value["tenant_id"] != tenant and not is_named:
                raise ValueError("it is about another tenant than those before; say which is meant with --tenant")
            if value["tenant_id"] == tenant and heads.setdefault(int(value["position"]), value["hash"]) != value["hash"]:
                raise ValueError("the row was signed with another hash before")
        except (ValueError, KeyError, RecursionError) as error:
            raise ValueError(f"checkpoints, line {number}: {error}")
    return (heads, tenant) if heads else sys.exit("checkpoints: there is none of the tenant")

def main(lines_of=lambda stream: iter(lambda: stream.readline(MAX_LINE), b"")):
    parser = argparse.ArgumentParser(description="Checks an export of an audit trail.")
    parser.add_argument("file", help="the export; - for the standard input")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the position it begins with")
    parser.add_argument("--tenant", help="whose trail it is, a uuid")
    parser.add_argument("--checkpoints", help="the signed checkpoints; they need a --public-key")
    parser.add_argument("--public-key", action="append", default=[], help="a PEM file; may be given again")
    given = parser.parse_args()
    is_uuid = not given.tenant or re.fullmatch(UUID, f'"{given.tenant}"')
    if given.first < 1 or bool(given.checkpoints) != bool(given.public_key) or not is_uuid:
        parser.error("--from is 1 at the least, --tenant a uuid, and --checkpoints and --public-key belong together")
    try:
        lines = lines_of(sys.stdin.buffer if given.file == "-" else open(given.file, "rb"))
        keys = {name: key for path in given.public_key for name, key in public_keys(path).items()}
        signed = read_checkpoints(lines_of(open(given.checkpoints, "rb")), keys, given.tenant) if keys else ({}, given.tenant)
        last, attested = check(lines, given.first, *signed)
    except OSError as error:
        parser.error(str(error))
    except ValueError as error:
        sys.exit(str(error))
    print(f"rows {given.first} to {last} are in order; " + (f"signed up to row {attested}" if keys else "nothing was signed"))

if __name__ == "__main__":
    main()
