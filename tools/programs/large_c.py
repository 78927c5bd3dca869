#!/usr/bin/env python3
"""Writes a C file of about 20,000 lines to standard output, always the same: integers, floats, structures, loops, switches."""
import random

random.seed(20261130)
lines = []
emit = lines.append
emit("#include <stdint.h>\n#include <string.h>\n#include <math.h>")
emit("struct S { int8_t a; uint16_t b; int32_t c; uint64_t d; float e; double f; long double g; unsigned x : 5, y : 11, z : 16; };")
TYPES = ["int", "unsigned", "long", "unsigned long", "short", "unsigned char"]
FLOATS = ["float", "double", "long double"]
BINARY = ["+", "-", "*", "&", "|", "^"]


def expression(names, depth):
    if depth == 0 or random.random() < 0.2:
        return random.choice(names + [str(random.randrange(-1000, 100000)), hex(random.getrandbits(31)) + "u"])
    kind = random.randrange(9)
    left, right = expression(names, depth - 1), expression(names, depth - 1)
    if kind < 4:
        return f"({left} {random.choice(BINARY)} {right})"
    if kind == 4:
        return f"(({left}) {random.choice(['<<', '>>'])} {random.randrange(31)})"
    if kind == 5:
        return f"({left} {random.choice(['<', '>', '==', '!=', '<='])} {right} ? {expression(names, depth - 1)} : {left})"
    if kind == 6:
        return f"({left} {random.choice(['/', '%'])} {random.choice([3, 7, 10, 16, 1000, 641])})"
    if kind == 7:
        return f"(~{left})"
    return f"(({random.choice(TYPES)}){left})"


def integer_function(number):
    kind = random.choice(TYPES)
    emit(f"{kind} f{number}(int a, unsigned b, long c, struct S *s, unsigned char *p)")
    emit("{")
    emit(f"    {kind} r = ({kind})(a + b);")
    emit(f"    for (int i = 0; i < (a & {random.choice([7, 15, 63])}); ++i) {{")
    names = ["a", "b", "c", "i", "r", "s->c", "s->d", "s->b", "p[i]", "s->x", "s->z"]
    for _ in range(random.randrange(2, 6)):
        emit(f"        {random.choice(['r', 's->c', 's->d', 'p[i & 31]', 's->y'])} {random.choice(['+=', '^=', '=', '-='])} {expression(names, 3)};")
    emit("    }")
    names.remove("i")
    names.remove("p[i]")
    emit("    switch (r & 15) {")
    for case in sorted(random.sample(range(16), random.randrange(4, 9))):
        emit(f"    case {case}: r += {expression(names, 2)}; {random.choice(['break;', ''])}")
    emit(f"    default: memcpy(p, s, {random.randrange(1, 40)}); break;")
    emit("    }")
    if number > 3:
        emit(f"    if (r > {random.randrange(1000)}) r ^= ({kind})f{random.randrange(number)}_any(a - 1, b, c, s, p);")
    emit("    return r;")
    emit("}")
    emit(f"long f{number}_any(int a, unsigned b, long c, struct S *s, unsigned char *p) {{ return a > 0 ? (long)f{number}(a, b, c, s, p) : c; }}")


def float_function(number):
    kind = random.choice(FLOATS)
    emit(f"{kind} g{number}({kind} x, {kind} y, const {kind} *v, int n)")
    emit("{")
    emit(f"    {kind} sum = {random.uniform(-10, 10):.17g};")
    emit("    for (int i = 0; i < n; ++i) {")
    for _ in range(random.randrange(1, 5)):
        emit(f"        sum {random.choice(['+=', '-=', '*='])} v[i] {random.choice('+-*/')} (x {random.choice('+-*')} {random.uniform(0.1, 9):.9g}) "
             f"{random.choice('+-*')} y;")
    emit("    }")
    emit(f"    if (sum < {random.uniform(-5, 5):.6g}) return (int)x + (unsigned char)n;")
    emit(f"    return {random.choice(['sqrt', 'fabs', 'floor', 'trunc'])}(sum) + (long)y;")
    emit("}")


number = 0
while len(lines) < 20000:
    (integer_function if random.random() < 0.7 else float_function)(number)
    if lines[-1] == "}":
        emit(f"long f{number}_any(int a, unsigned b, long c, struct S *s, unsigned char *p) {{ return a ^ (long)b; }}")
    number += 1
print("\n".join(lines))
