// Prints long doubles in every format of printf, over values of every kind, and reads them back.
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;
static uint64_t next(void) {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/// Any normal or subnormal number, with an exponent near that of 1 as often as not.
static long double value(unsigned n) {
    static const long double special[] = {0.0L, -0.0L, 1.0L, -1.0L, 0.1L, 0.5L, 1.5L, 2.5L, 9.5L, 9.995L, 99.5L, 999999.5L, 1e15L, 1e16L,
        1e17L, 1e21L, 1e-4L, 1e-5L, 123456789.0L, LDBL_MAX, LDBL_MIN, LDBL_TRUE_MIN, -LDBL_MAX, LDBL_EPSILON, DBL_MAX, DBL_MIN, INFINITY,
        -INFINITY, NAN, 18446744073709551615.0L, 18446744073709551616.0L, 9223372036854775807.0L, 3.14159265358979323846264338327950288L};
    if (n < sizeof special / sizeof *special) return special[n];
    const uint64_t r = next();
    uint16_t exponent = (uint16_t)(r % 0x7fff);
    if (r >> 62 != 0) exponent = (uint16_t)(0x3fff - 70 + r % 140);
    uint64_t significand = next();
    if (exponent != 0) significand |= UINT64_C(1) << 63;
    else significand &= ~(UINT64_C(1) << 63);
    if ((r >> 32) % 4 == 0) significand &= ~UINT64_C(0) << ((r >> 40) % 63);
    if (exponent != 0) significand |= UINT64_C(1) << 63;
    long double x = 0;
    memcpy(&x, &significand, 8);
    memcpy((char*)&x + 8, &exponent, 2);
    return (r >> 61 & 1) != 0 ? -x : x;
}

int main(int argc, char** argv) {
    const unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    static const char* formats[] = {"%Lf", "%Le", "%Lg", "%La", "%LF", "%LE", "%LG", "%LA", "%.0Lf", "%.1Le", "%.3Lg", "%.5La", "%+.20Lf",
        "% .25Le", "%#.0Lf", "%#Lg", "%030.10Lf", "%-40.15Le|", "%.40Lg", "%.0La", "%'.2Lf", "%.64Le"};
    char text[8192];
    for (unsigned n = 0; n < count; ++n) {
        const long double x = value(n);
        for (unsigned f = 0; f < sizeof formats / sizeof *formats; ++f) {
            snprintf(text, sizeof text, formats[f], x);
            const long double back = strtold(text, NULL);
            printf("%s %La %.17g %d\n", text, back, (double)x, signbit(back) != 0);
        }
        printf("%La %La %La %Lf %Lf\n", sqrtl(fabsl(x)), floorl(x / 3), fmodl(x, 7.25L), logl(fabsl(x) + 1), rintl(x * 1e-3L));
    }
    return 0;
}
