#!/usr/bin/env python3
"""Checks CMesh receipts offline: Python 3, standard library only, written from cmtp/SPEC.md (sections 8, 9 and 15).

    verify.py DID FILE [--witness FILE] [--claims N]
    verify.py DID --batch FILE        many at once, `-` for standard input; see README.md

DID is that of the mesh, `did:key:z...`. Exit code: 0 it holds, 1 it does not, 2 it is no receipt (or the command is wrong).
Nothing is fetched and nothing but the DID is trusted.
"""
import hashlib
import json
import re
import struct
import sys

# --- Ed25519, RFC 8032, 5.1: verification only, so nothing here is secret and nothing need take constant time

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
# y of the points whose order divides 8, without the sign bit: for these one signature holds for any message
SMALL_ORDER = {0, 1, P - 1, *(int.from_bytes(bytes.fromhex(text), 'little') for text in (
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'))}


def point_add(p, q):
    """RFC 8032, 5.1.4, in extended coordinates."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_double(p):
    a, b, c = p[0] * p[0] % P, p[1] * p[1] % P, 2 * p[2] * p[2] % P
    h = a + b
    e = h - (p[0] + p[1]) * (p[0] + p[1])
    g = a - b
    f = c + g
    e %= P
    return e * f % P, g * h % P, f * g % P, e * h % P


def recover_x(y, sign):
    """RFC 8032, 5.1.3."""
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if (x & 1) != sign else x


def decompress(data):
    y = int.from_bytes(data, 'little')
    sign, y = y >> 255, y & (2**255 - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def compress(p):
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, 'little')


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_holds(key, message, signature):
    """RFC 8032, 5.1.7: whether [S]B - [k]A is R, in R's one encoding."""
    a = decompress(key)
    s = int.from_bytes(signature[32:], 'little')
    if a is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), 'little') % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    both = point_add(BASE, minus_a)
    result = (0, 1, 1, 0)
    for bit in range(max(s.bit_length(), k.bit_length()) - 1, -1, -1):
        result = point_double(result)
        in_s, in_k = s >> bit & 1, k >> bit & 1
        if in_s and in_k:
            result = point_add(result, both)
        elif in_s:
            result = point_add(result, BASE)
        elif in_k:
            result = point_add(result, minus_a)
    return compress(result) == signature[:32]


SEEN = {}


def signed_by(key, message, signature):
    """`ed25519_holds`, once for what many receipts of one batch have in common."""
    asked = (key, message, signature)
    if asked not in SEEN:
        if len(SEEN) >= 4096:
            SEEN.clear()
        SEEN[asked] = ed25519_holds(key, message, signature)
    return SEEN[asked]


# --- DIDs

BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'


def is_key(key):
    y = int.from_bytes(key, 'little') & (2**255 - 1)
    return y < P and y not in SMALL_ORDER


def did_of(key):
    number, text = int.from_bytes(b'\xed\x01' + key, 'big'), ''
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return 'did:key:z' + text


# --- what a verdict is made of

MOST = 2**53 - 1
# More than a receipt (1 MiB) or a witness (two bodies of 1 MiB, two header blocks) has
READ_BYTES = 4 * 2**20


class Malformed(Exception):
    """No receipt: offset and what was expected there."""


class Invalid(Exception):
    def __init__(self, at, reason, index=None):
        super().__init__(at, reason, index)
        self.at, self.reason, self.index = at, reason, index


def sha256(*parts):
    return hashlib.sha256(b''.join(parts)).digest()


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length, expected):
        if self.at + length > len(self.data):
            raise Malformed(self.at, expected)
        self.at += length
        return self.data[self.at - length:self.at]

    def integer(self, length, expected):
        return int.from_bytes(self.take(length, expected), 'big')

    def count(self, expected):
        value = self.integer(8, expected)
        if value > MOST:
            raise Malformed(self.at - 8, 'a number below 2^53')
        return value

    def text(self):
        length = self.integer(2, 'a length of a text')
        at = self.at
        try:
            return self.take(length, 'a text').decode('utf-8')
        except UnicodeDecodeError:
            raise Malformed(at, 'UTF-8') from None

    def must(self, holds, expected, back=0):
        if not holds:
            raise Malformed(self.at - back, expected)

    def end(self):
        self.must(self.at == len(self.data), 'the end')


# --- the form of a receipt and of a witness

def decode_root(data, base):
    root = Reader(data)
    root.at = 1
    fields = {'mesh': root.take(32, ''), 'node': root.take(32, ''), 'log': root.take(32, '')}
    if data[0] != 1:
        raise Malformed(base, 'version 1 of a root record')
    for name in ('batch', 'first'):
        fields[name] = root.integer(8, '')
    fields['count'] = root.integer(4, '')
    fields['merkle'], fields['previous'], fields['time'] = root.take(32, ''), root.take(32, ''), root.integer(8, '')
    fields['signature'] = root.take(64, '')
    for name, at in (('batch', 97), ('first', 105), ('time', 181)):
        if fields[name] > MOST:
            raise Malformed(base + at, 'a number below 2^53')
    if fields['count'] == 0:
        raise Malformed(base + 113, 'one leaf or more')
    if (fields['batch'] == 0) != (fields['previous'] == bytes(32)):
        raise Malformed(base + 149, 'a hash of the record before, and zeros in the first one')
    for name, at in (('mesh', 1), ('node', 33)):
        if not is_key(fields[name]):
            raise Malformed(base + at, 'a public key')
    return fields


def decode_certificate(reader):
    return reader.count('a time'), reader.take(64, 'a signature')


def decode_evidence(reader):
    link_count = reader.integer(2, 'a number of links')
    reader.must(link_count <= 1024, 'at most 1024 links', 2)
    links = [(link[:58], link[58:]) for link in (reader.take(90, 'a link') for _ in range(link_count))]
    count = reader.integer(1, 'a number of claims')
    reader.must(1 <= count <= 64, '1 to 64 claims', 1)
    claims = []
    for _ in range(count):
        claim = {'at': reader.integer(2, 'a place of a claim')}
        reader.must(claim['at'] <= link_count, 'a claim behind one of the links', 2)
        claim['member'] = reader.take(32, 'a public key')
        level = reader.integer(1, 'a level')
        reader.must(level <= 2, 'a known level', 1)
        claim['level'] = ('memory', 'os', 'disk')[level]
        claim['out'], claim['time'] = reader.count('a sequence'), reader.count('a time')
        version = reader.take(reader.integer(1, 'a length of a version'), 'a version')
        plain = all(0x20 <= byte <= 0x7e and byte not in b'"\\' for byte in version)
        reader.must(plain, 'a version in plain text', len(version))
        claim['version'] = version.decode('ascii')
        certified = reader.integer(1, 'whether there is a certificate')
        reader.must(certified <= 1, '0 or 1', 1)
        claim['certificate'] = decode_certificate(reader) if certified else None
        claim['signature'] = reader.take(64, 'a signature')
        reader.must(not claims or claims[-1]['member'] < claim['member'], 'claims in the order of their members')
        claims.append(claim)
    return links, claims


def decode_outcome_evidence(reader):
    reader.must(reader.integer(1, 'a version of evidence') == 2, 'version 2 of evidence', 1)
    told = {'members': reader.integer(2, 'a number of members'), 'asked': reader.take(32, 'a hash'), 'result': reader.take(32, 'a hash')}
    told['index'], told['count'] = reader.integer(2, 'an index'), reader.integer(2, 'a number of outcomes')
    reader.must(1 <= told['count'] <= 256, '1 to 256 outcomes', 2)
    steps = reader.integer(1, 'a length of a path')
    reader.must(steps <= 8, 'at most 8 hashes of a path', 1)
    told['path'] = [reader.take(32, 'a hash') for _ in range(steps)]
    count = reader.integer(1, 'a number of claims')
    reader.must(1 <= count <= 64, '1 to 64 claims', 1)
    claims = told['claims'] = []
    for _ in range(count):
        claim = {'member': reader.take(32, 'a public key')}
        level = reader.integer(1, 'a level')
        reader.must(level <= 2, 'a known level', 1)
        claim['level'], claim['time'] = ('memory', 'os', 'disk')[level], reader.count('a time')
        certified = reader.integer(1, 'whether there is a certificate')
        reader.must(certified <= 1, '0 or 1', 1)
        claim['certificate'] = decode_certificate(reader) if certified else None
        claim['signature'] = reader.take(64, 'a signature')
        reader.must(not claims or claims[-1]['member'] < claim['member'], 'claims in the order of their members')
        claims.append(claim)
    return told


def decode_receipt(data):
    reader = Reader(data)
    reader.must(reader.take(4, '"CMRC"') == b'CMRC', '"CMRC"', 4)
    if len(data) > 1048576:
        raise Malformed(1048576, 'the end')
    reader.must(reader.integer(1, 'a version') == 1, 'version 1 of a receipt', 1)
    flags = reader.integer(1, 'flags')
    reader.must(flags <= 5, 'known flags', 1)
    start = reader.at
    reader.must(reader.integer(1, 'a version of the final hash') == 1, 'version 1 of the final hash', 1)
    receipt = {'id': reader.take(16, 'a message id'), 'status': reader.integer(2, 'a status'), 'content': reader.take(32, 'a hash')}
    receipt['sid'], receipt['sub'] = reader.text(), reader.text()
    count = reader.integer(1, 'a count')
    reader.must(1 <= count <= 32, '1 to 32 layers', 1)
    receipt['bound'] = data[start:reader.at]
    layers = receipt['layers'] = []
    for _ in range(count):
        digest = reader.take(32, 'a hash')
        length = reader.integer(1, 'a length of a layer')
        layer = reader.take(length, 'a layer') if length else None
        texts = reader.take(reader.integer(2, 'a length of texts'), 'texts') if length else None
        layers.append((digest, layer, texts))
    receipt['final'] = reader.take(32, 'a hash')
    receipt['index'] = reader.integer(4, 'an index')
    steps = reader.integer(1, 'a length of a path')
    reader.must(steps <= 32, 'at most 32 hashes of a path', 1)
    receipt['path'] = [reader.take(32, 'a hash') for _ in range(steps)]
    receipt['root_bytes'] = reader.take(253, 'a root record')
    receipt['root'] = decode_root(receipt['root_bytes'], reader.at - 253)
    receipt['certificate'] = decode_certificate(reader) if flags & 1 else None
    receipt['evidence'] = decode_evidence(reader) if flags & 2 else None
    receipt['outcome'] = decode_outcome_evidence(reader) if flags & 4 else None
    reader.end()
    return receipt


def decode_witness(data):
    reader = Reader(data)
    reader.must(reader.take(4, '"CMRW"') == b'CMRW', '"CMRW"', 4)
    reader.must(reader.integer(1, 'a version') == 1, 'version 1 of a witness', 1)
    witness = {'id': reader.take(16, 'a message id'), 'salt': reader.take(16, 'a salt')}
    reader.count('a deadline')
    witness['fqmn'] = reader.text()
    for side in ('request', 'reply'):
        witness[side + '_headers'] = reader.take(reader.integer(2, 'a length of headers'), 'headers')
        length = reader.integer(4, 'a length of a body')
        reader.must(length <= 1048576, 'a body of at most 1048576 bytes', 4)
        witness[side + '_body'] = reader.take(length, 'a body')
    reader.end()
    return witness


# --- whether it holds

def check_certificate(certificate, node, mesh, who, at, index=None):
    """That the mesh's key (`mesh`, 32 bytes) stands for the node's."""
    if certificate is None:
        if node != mesh:
            raise Invalid(at, f'the certificate of the {who} is missing', index)
        return
    if node == mesh:
        raise Invalid(at, 'a certificate is where none is needed', index)
    issued, signature = certificate
    text = f'{{"issued":{issued},"mesh":"{did_of(mesh)}","node":"{did_of(node)}","v":1}}'
    if not signed_by(mesh, b'CMesh/1 certificate\n' + text.encode(), signature):
        raise Invalid(at, f'the mesh did not sign the certificate of the {who}', index)


def root_from_path(leaf, index, count, path):
    """RFC 9162, 2.1.3.2; None where the path has not the length that leaf `index` of `count` needs."""
    if index >= count:
        return None
    node, last, used = leaf, count - 1, 0
    while last:
        if index != last or index & 1:
            if used == len(path):
                return None
            beside, used = path[used], used + 1
            node = sha256(b'\x01', beside, node) if index & 1 else sha256(b'\x01', node, beside)
        index, last = index >> 1, last >> 1
    return node if used == len(path) else None


def parse_layer(layer, texts):
    """The fields of a layer of version 1 that are looked at again (hop 3 is `state`); None where it is none."""
    if len(layer) < 74 or layer[0] != 1 or not 1 <= layer[1] <= 8 or layer[2] > 15 or layer[3] > 2:
        return None
    flags, at = layer[2], 74
    fields = {'hop': layer[1], 'status': int.from_bytes(layer[4:6], 'big'), 'gas': layer[18:26]}
    for flag, name, length in ((1, 'before', 44), (2, 'after', 44), (4, 'arguments', 32)):
        fields[name] = layer[at:at + length] if flags & flag else None
        at += length if flags & flag else 0
    reader = Reader(texts)
    try:
        told = [reader.text() for _ in range(4 if flags & 8 else 3)]
        reader.end()
    except Malformed:
        return None
    fields['fqmn'] = told[1]
    return fields if at == len(layer) else None


def check_layer(digest, layer, texts, index):
    if layer is None:
        return None
    if sha256(b'\x04', layer) != digest:
        raise Invalid('layer', 'its hash is another', index)
    if sha256(b'\x02', texts) != layer[26:58]:
        raise Invalid('layer', 'its texts are not those of its place', index)
    fields = parse_layer(layer, texts)
    if fields is None:
        raise Invalid('layer', 'it is no layer of version 1', index)
    return fields


def check_witness(witness, receipt, layers):
    if witness['id'] != receipt['id']:
        raise Invalid('body', 'the witness is of another message')
    asked = None if layers[-1] is None else layers[-1]['fqmn']
    unread = asked == ''
    bare, behind, rest = witness['fqmn'].partition(':[')
    if asked is not None and not unread and asked != bare:
        raise Invalid('body', 'another address was asked for')
    request = b'' if unread else witness['request_body']
    content = sha256(b'\x03', witness['salt'], sha256(request), sha256(witness['reply_body']), witness['reply_headers'])
    if content != receipt['content']:
        raise Invalid('body', 'bodies, headers and salt are not those of the message')
    arguments = ('[' + rest).encode() if behind else witness['request_body']
    expected = sha256(witness['salt'], arguments) if arguments and not unread else None
    for index, layer in enumerate(layers):
        covers = layer is not None and (layer['arguments'] is not None or index == len(layers) - 1)
        if covers and layer['arguments'] != expected:
            raise Invalid('body', 'its arguments are others', index)


def check_member(claim, mesh, index):
    if not is_key(claim['member']):
        raise Invalid('claims', 'it names no member', index)
    check_certificate(claim['certificate'], claim['member'], mesh, 'member', 'claims', index)


def check_claims(receipt, layers, mesh, needed, witness):
    moved = next((layer for layer in reversed(layers) if layer is not None and layer['after'] is not None), None)
    links, outcome = receipt['evidence'], receipt['outcome']
    given = len(links[1] if links is not None else [] if outcome is None else outcome['claims'])
    if (moved is not None or None in layers) and given < needed:
        raise Invalid('claims', f'it has {given} claims where {needed} are needed')
    if links is None and outcome is None:
        return
    if moved is None or int.from_bytes(moved['after'][4:12], 'big') > MOST:
        raise Invalid('claims', 'no layer shows where the write left the state')
    if outcome is None:
        check_links(links, moved['after'], mesh)
    else:
        check_outcome(outcome, moved, receipt, mesh, witness)


def check_links(evidence, after, mesh):
    """Evidence of version 1: claims of the state behind the write."""
    positions = [(int.from_bytes(after[:4], 'big'), int.from_bytes(after[4:12], 'big'), after[12:])]
    for head, rest in evidence[0]:
        epoch, seq, chain = positions[-1]
        next_epoch, next_seq = struct.unpack_from('<QQ', head, 34)
        follows = head[:2] == b'\x53\x02' and next_seq == seq + 1 and next_epoch >= epoch
        if not follows or next_epoch > MOST or next_seq > MOST:
            raise Invalid('claims', 'a block does not follow the one before')
        positions.append((next_epoch, next_seq, sha256(chain, head, rest)))
    for index, claim in enumerate(evidence[1]):
        check_member(claim, mesh, index)
        member = claim['member']
        epoch, seq, chain = positions[claim['at']]
        text = (f'{{"chain":"{chain.hex()}","did":"{did_of(member)}","epoch":{epoch},"level":"{claim["level"]}","out":{claim["out"]},'
                f'"seq":{seq},"timeMs":{claim["time"]},"v":1,"version":"{claim["version"]}"}}')
        if not signed_by(member, b'CMesh/1 claim\n' + text.encode(), claim['signature']):
            raise Invalid('claims', 'the member did not sign it', index)


def check_outcome(evidence, moved, receipt, mesh, witness):
    """Evidence of version 2: claims of the outcome of the write."""
    if witness is not None and moved['hop'] == 3:
        _, behind, rest = witness['fqmn'].partition(':[')
        address = moved['fqmn'] + behind + rest
        request = sha256(receipt['sub'].encode(), b'\0', address.encode(), b'\0', witness['request_body'])
        if sha256(b'\x05', witness['salt'], request) != evidence['asked']:
            raise Invalid('claims', 'another request was executed')
        if moved['status'] < 400 and sha256(b'\x06', witness['salt'], sha256(witness['reply_body'])) != evidence['result']:
            raise Invalid('claims', 'it had another result')
    outcome = sha256(b'\x07', moved['status'].to_bytes(2, 'big'), moved['gas'], moved['after'], evidence['asked'], evidence['result'])
    root = root_from_path(sha256(b'\x00', receipt['id'], outcome), evidence['index'], evidence['count'], evidence['path'])
    if root is None:
        raise Invalid('claims', 'its path leads to no root')
    for index, claim in enumerate(evidence['claims']):
        check_member(claim, mesh, index)
        text = (f'{{"count":{evidence["count"]},"did":"{did_of(claim["member"])}","level":"{claim["level"]}","members":{evidence["members"]},'
                f'"root":"{root.hex()}","timeMs":{claim["time"]},"v":1}}')
        if not signed_by(claim['member'], b'CMesh/1 outcomes\n' + text.encode(), claim['signature']):
            raise Invalid('claims', 'the member did not sign it', index)


def check(data, mesh, witness=None, claims=0):
    """The receipt, once it holds for the mesh with the DID `mesh`. Raises Malformed or Invalid."""
    receipt = decode_receipt(data)
    witness = None if witness is None else decode_witness(witness)
    root = receipt['root']
    if did_of(root['mesh']) != mesh:
        raise Invalid('key', 'it is of another mesh')
    check_certificate(receipt['certificate'], root['node'], root['mesh'], 'node', 'certificate')
    if not signed_by(root['node'], b'CMesh/1 audit-root\n' + receipt['root_bytes'][:189], root['signature']):
        raise Invalid('signature', 'the node did not sign the root')
    leaf = sha256(b'\x00', receipt['id'], receipt['final'])
    if root_from_path(leaf, receipt['index'], root['count'], receipt['path']) != root['merkle']:
        raise Invalid('path', 'its path does not lead to the root')
    if sha256(b'\x01', receipt['bound'], *(digest for digest, _, _ in receipt['layers'])) != receipt['final']:
        raise Invalid('final', 'the final hash is not that of the message and the hashes of its layers')
    layers = [check_layer(*layer, index) for index, layer in enumerate(receipt['layers'])]
    if witness is not None:
        check_witness(witness, receipt, layers)
    check_claims(receipt, layers, root['mesh'], claims, witness)
    return receipt


def verdict(data, mesh, witness=None, claims=0):
    try:
        check(data, mesh, witness, claims)
        return {'valid': True}
    except Malformed as error:
        return {'valid': False, 'at': 'format', 'reason': f'byte {error.args[0]} is not {error.args[1]}'}
    except Invalid as error:
        index = {} if error.index is None else {'index': error.index}
        return {'valid': False, 'at': error.at, **index, 'reason': error.reason}


# --- the command

def batch(mesh, source):
    """Runs of u32 length and receipt, u32 length and witness (0: none); one verdict a line."""
    out = sys.stdout
    at, data = 0, source.read()
    while at < len(data):
        parts = []
        for _ in range(2):
            length = int.from_bytes(data[at:at + 4], 'big')
            parts.append(data[at + 4:at + 4 + length])
            at += 4 + length
        out.write(json.dumps(verdict(parts[0], mesh, parts[1] or None)) + '\n')
    return 0


def unreadable(path, error):
    print(f'{path} cannot be read: {error.strerror}', file=sys.stderr)
    return 2


def main(arguments):
    options = {'--witness': None, '--claims': '0', '--batch': None}
    plain = []
    while arguments:
        word = arguments.pop(0)
        if word in options and arguments:
            options[word] = arguments.pop(0)
        else:
            plain.append(word)
    if len(plain) != (1 if options['--batch'] else 2) or not re.fullmatch('[0-9]{1,4}', options['--claims']):
        print(__doc__, file=sys.stderr)
        return 2
    if options['--batch']:
        try:
            source = sys.stdin.buffer if options['--batch'] == '-' else open(options['--batch'], 'rb')
        except OSError as error:
            return unreadable(options['--batch'], error)
        with source:
            return batch(plain[0], source)
    files = []
    for path in (plain[1], options['--witness']):
        try:
            # Of what is longer than any receipt or witness no more is read than shows it.
            files.append(None if path is None else open(path, 'rb').read(READ_BYTES))
        except OSError as error:
            return unreadable(path, error)
    told = verdict(files[0], plain[0], files[1], int(options['--claims']))
    if told['valid']:
        print('valid')
        return 0
    if told['at'] == 'format':
        print(f'no receipt: {told["reason"]}')
        return 2
    which = f' {told["index"]}' if 'index' in told else ''
    print(f'invalid, {told["at"]}{which}: {told["reason"]}')
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
