/* Ten compute-bound kernels, each with a line of its own on the console, so that whoever reads it can time them: "name checksum".
   No byte order and no word size in any result, so that every ISA and the host (cc -DHOST) print the same. */
#include "guest.h"

#ifdef HOST
#include <stdio.h>
void put_text(const char *s) { fputs(s, stdout); fflush(stdout); }
void put_hex64(u64 v) { printf("%016llx", v); }
#endif

#ifndef SCALE
#define SCALE 6
#endif

volatile u32 kernels_scale = SCALE;

static u32 seed = 1;

static u32 draw(void)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 8;
}

/* list: sort a linked list by merging, search it, turn it */
#define NODES 2000

struct node {
    struct node *next;
    i32 value, number;
};

static struct node nodes[NODES];

static NOINLINE struct node *merge(struct node *a, struct node *b)
{
    struct node head, *tail = &head;
    while (a && b) {
        if (a->value <= b->value) {
            tail->next = a;
            a = a->next;
        } else {
            tail->next = b;
            b = b->next;
        }
        tail = tail->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static NOINLINE struct node *sorted(struct node *list)
{
    if (!list || !list->next)
        return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct node *rest = slow->next;
    slow->next = 0;
    return merge(sorted(list), sorted(rest));
}

static NOINLINE struct node *turned(struct node *list)
{
    struct node *done = 0;
    while (list) {
        struct node *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static NOINLINE u64 k_list(u32 n)
{
    u64 sum = 0;
    for (u32 r = 0; r < n; r++) {
        for (u32 i = 0; i < NODES; i++) {
            nodes[i].value = draw() & 0xffff;
            nodes[i].number = i;
            nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
        }
        struct node *list = sorted(nodes);
        for (u32 j = 0; j < 40; j++) {
            i32 key = draw() & 0xffff;
            struct node *p = list;
            while (p && p->value < key)
                p = p->next;
            sum += p ? p->number : 1;
            list = turned(list);
            sum = sum * 31 + list->value;
            list = turned(list);
        }
    }
    return sum;
}

/* matrix: integer product */
#define EDGE 96

static i32 ma[EDGE][EDGE], mb[EDGE][EDGE], mc[EDGE][EDGE];

static NOINLINE u64 k_matrix(u32 n)
{
    u64 sum = 0;
    for (u32 i = 0; i < EDGE; i++)
        for (u32 j = 0; j < EDGE; j++) {
            ma[i][j] = draw() & 0x3ff;
            mb[i][j] = draw() & 0x3ff;
        }
    for (u32 r = 0; r < n; r++) {
        for (u32 i = 0; i < EDGE; i++)
            for (u32 j = 0; j < EDGE; j++) {
                i32 s = 0;
                for (u32 k = 0; k < EDGE; k++)
                    s += ma[i][k] * mb[k][j];
                mc[i][j] = s;
            }
        ma[r % EDGE][0] ^= mc[3][5];
        sum += mc[r % EDGE][7];
    }
    return sum;
}

/* crc: bit by bit */
static u8 bytes[65536];

static NOINLINE u16 crc16(const u8 *p, u32 n, u16 crc)
{
    for (u32 i = 0; i < n; i++) {
        u8 d = p[i];
        for (u32 b = 0; b < 8; b++) {
            u8 x = (d ^ crc) & 1;
            d >>= 1;
            if (x) {
                crc ^= 0x4002;
                crc >>= 1;
                crc |= 0x8000;
            } else {
                crc >>= 1;
            }
        }
    }
    return crc;
}

static NOINLINE u64 k_crc(u32 n)
{
    for (u32 i = 0; i < sizeof bytes; i++)
        bytes[i] = draw();
    u16 crc = 0;
    for (u32 r = 0; r < n; r++)
        crc = crc16(bytes, sizeof bytes, crc);
    return crc;
}

/* state: a scanner of numbers */
static char text[16384];

enum { START, BAD, SIGN, EXPONENT, DIGITS, POINT, EXPONENT_SIGN, EXPONENT_DIGITS };

static inline u32 digit(char c) { return c >= '0' && c <= '9'; }

static inline u32 next_state(u32 state, char c)
{
    switch (state) {
    case START: return digit(c) ? DIGITS : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : BAD;
    case SIGN: return digit(c) ? DIGITS : c == '.' ? POINT : BAD;
    case DIGITS: return c == '.' ? POINT : digit(c) ? DIGITS : BAD;
    case POINT: return c == 'e' || c == 'E' ? EXPONENT : digit(c) ? POINT : BAD;
    case EXPONENT: return c == '+' || c == '-' ? EXPONENT_SIGN : BAD;
    case EXPONENT_SIGN: return digit(c) ? EXPONENT_DIGITS : BAD;
    case EXPONENT_DIGITS: return digit(c) ? EXPONENT_DIGITS : BAD;
    }
    return BAD;
}

static NOINLINE u64 k_state(u32 n)
{
    static const char *const words[] = {
        "4711,", "8", "15,", "-32,", "+9.25,", "44.3200,", ".0071,", "-250.5,", "+.75,", "6.02e+23,", "-.9e-3,", "-12e+5,",
        "+7.e-9,", "x1.2,", "-y--2,", "3z4e5,"};
    u32 k = 0;
    while (k < sizeof text - 16)
        for (const char *s = words[draw() & 15]; *s; s++)
            text[k++] = *s;
    text[k] = 0;
    u64 counts[8] = {0}, sum = 0;
    for (u32 r = 0; r < n; r++) {
        u32 state = START;
        for (const char *p = text; *p; p++) {
            if (*p == ',') {
                counts[state]++;
                state = START;
            } else {
                state = next_state(state, *p);
            }
        }
        text[r % 1000] ^= (r & 1) << 4;
        if (!text[r % 1000])
            text[r % 1000] = '1';
    }
    for (u32 i = 0; i < 8; i++)
        sum = sum * 131 + counts[i];
    return sum;
}

/* sieve */
#define NUMBERS 500000

static u8 prime[NUMBERS];

static NOINLINE u64 k_sieve(u32 n)
{
    u64 sum = 0;
    for (u32 r = 0; r < n; r++) {
        for (u32 i = 0; i < NUMBERS; i++)
            prime[i] = 1;
        for (u32 i = 2; i * i < NUMBERS; i++)
            if (prime[i])
                for (u32 j = i * i; j < NUMBERS; j += i)
                    prime[j] = 0;
        for (u32 i = 2; i < NUMBERS; i++)
            sum += prime[i];
    }
    return sum;
}

/* vm: an interpreter of stack code */
enum { HALT, PUSH, ADD, MUL, XOR, DUP, KEEP, AGAIN, SUM, SHIFT, NOT };

static NOINLINE u64 execute(const u8 *code, u64 n)
{
    u64 stack[16], sum = 0;
    u32 sp = 0;
    for (const u8 *pc = code;;) {
        switch (*pc++) {
        case HALT: return sum;
        case PUSH: stack[sp++] = *pc++; break;
        case ADD: sp--; stack[sp - 1] += stack[sp]; break;
        case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
        case XOR: sp--; stack[sp - 1] ^= stack[sp]; break;
        case DUP: stack[sp] = stack[sp - 1]; sp++; break;
        case KEEP: sum += stack[--sp]; break;
        case AGAIN: if (--n) pc = code; break;
        case SUM: stack[sp++] = sum; break;
        case SHIFT: stack[sp - 1] >>= 3; break;
        case NOT: stack[sp - 1] = ~stack[sp - 1]; break;
        }
    }
}

static NOINLINE u64 k_vm(u32 n)
{
    static const u8 program[] = {
        PUSH, 7, PUSH, 9, MUL, DUP, ADD, SUM, XOR, SHIFT, NOT, KEEP, SUM, PUSH, 3, MUL, KEEP, PUSH, 5, SUM, XOR, SHIFT, KEEP,
        AGAIN, HALT};
    return execute(program, n);
}

/* fib: calls and returns */
static NOINLINE u64 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static NOINLINE u64 k_fib(u32 n)
{
    u64 sum = 0;
    for (u32 r = 0; r < n; r++)
        sum = sum * 3 + fib(28 + (r & 1));
    return sum;
}

/* qsort: comparisons by way of a pointer */
#define ITEMS 20000

static i32 items[ITEMS];

static NOINLINE i32 compare(const i32 *a, const i32 *b) { return *a < *b ? -1 : *a > *b; }

i32 (*volatile comparison)(const i32 *, const i32 *) = compare;

static NOINLINE void quicksort(i32 *a, i32 n, i32 (*f)(const i32 *, const i32 *))
{
    while (n > 1) {
        i32 pivot = a[n / 2], i = 0, j = n - 1;
        while (i <= j) {
            while (f(&a[i], &pivot) < 0)
                i++;
            while (f(&a[j], &pivot) > 0)
                j--;
            if (i <= j) {
                i32 t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j + 1 < n - i) {
            quicksort(a, j + 1, f);
            a += i;
            n -= i;
        } else {
            quicksort(a + i, n - i, f);
            n = j + 1;
        }
    }
}

static NOINLINE u64 k_qsort(u32 n)
{
    u64 sum = 0;
    for (u32 r = 0; r < n; r++) {
        for (u32 i = 0; i < ITEMS; i++)
            items[i] = draw();
        quicksort(items, ITEMS, comparison);
        for (u32 i = 0; i < ITEMS; i += 97)
            sum = sum * 31 + items[i];
    }
    return sum;
}

/* hash: 64-bit multiplication and division */
static u64 table[4096];

static inline u64 high(u64 a, u64 b)
{
#ifdef __SIZEOF_INT128__
    return (unsigned __int128)a * b >> 64;
#else
    u64 al = (u32)a, ah = a >> 32, bl = (u32)b, bh = b >> 32;
    u64 m = ah * bl + (al * bl >> 32);
    return ah * bh + (m >> 32) + ((al * bh + (u32)m) >> 32);
#endif
}

static NOINLINE u64 k_hash(u32 n)
{
    u64 x = 88172645463325252ull, sum = 0;
    for (u32 i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        u64 h = high(x, 0x9E3779B97F4A7C15ull), *p = &table[h & 4095];
        sum += *p;
        *p = x;
        if ((i & 15) == 0)
            sum += x % (h | 1);
    }
    return sum;
}

/* string: copying and changing bytes */
static u8 copy[65536];

static NOINLINE void copy_words(uptr *to, const uptr *from, u32 n)
{
    for (u32 i = 0; i < n; i++)
        to[i] = from[i];
}

static NOINLINE u64 k_string(u32 n)
{
    u64 sum = 0;
    for (u32 r = 0; r < n; r++) {
        copy_words((uptr *)(void *)copy, (const uptr *)(const void *)bytes, sizeof copy / sizeof(uptr) - (r & 7));
        for (u32 i = 0; i < sizeof copy; i++) {
            u8 c = copy[i];
            if (c >= 'a' && c <= 'z')
                copy[i] = c - 32;
            else if (c == 0)
                sum++;
        }
        copy[r & 0xffff] = r;
        sum += copy[r * 7919u & 0xffff];
    }
    return sum;
}

/* 64-bit division is a loop on a 32-bit CPU; the host says NARROW to print what such a CPU does */
#if defined(NARROW) || __SIZEOF_POINTER__ == 4
#define HASHES 100000
#else
#define HASHES 2000000
#endif

static const struct {
    const char *name;
    u64 (*run)(u32);
    u32 count;
} kernels[] = {
    {"list", k_list, 60}, {"matrix", k_matrix, 40}, {"crc", k_crc, 9}, {"state", k_state, 400}, {"sieve", k_sieve, 25},
    {"vm", k_vm, 800000}, {"fib", k_fib, 4}, {"qsort", k_qsort, 18}, {"hash", k_hash, HASHES}, {"string", k_string, 200},
};

int main(void)
{
    u64 sum = 0;
    put_text("@@START\n");
    for (u32 i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        u64 value = kernels[i].run(kernels[i].count * kernels_scale);
        sum = sum * 1000003u + value;
        put_text(kernels[i].name);
        put_text(" ");
        put_hex64(value);
        put_text("\n");
    }
    put_text("@@DONE ");
    put_hex64(sum);
    put_text("\n");
#ifndef HOST
    finish(0);
#endif
    return 0;
}
