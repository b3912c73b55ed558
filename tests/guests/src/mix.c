/* The bench mix: eight kernels of about the same number of instructions. 32-bit arithmetic only and no byte order in any result, so
   that every ISA and the host (cc -DHOST) print the same checksums. */
#include "guest.h"

#ifdef HOST
#include <stdio.h>
void put_text(const char *s) { fputs(s, stdout); }
void put_hex32(u32 v) { printf("%08x", v); }
#endif

#ifndef SCALE
#define SCALE 1
#endif

volatile u32 mix_scale = SCALE;

static u32 seed;

static inline u32 draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* list: build, sort by merging, search and turn a linked list */
#define NODES 1500

struct node {
    struct node *next;
    u32 key, mark;
};

static struct node nodes[NODES];

static NOINLINE struct node *merge(struct node *a, struct node *b)
{
    struct node head, *tail = &head;
    while (a && b) {
        struct node **least = a->key <= b->key ? &a : &b;
        tail->next = *least;
        tail = *least;
        *least = tail->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static NOINLINE struct node *sorted(struct node *list, u32 n)
{
    if (n < 2) {
        if (list)
            list->next = 0;
        return list;
    }
    struct node *mid = list;
    for (u32 i = 0; i < n / 2; i++)
        mid = mid->next;
    return merge(sorted(list, n / 2), sorted(mid, n - n / 2));
}

static NOINLINE u32 list_kernel(u32 times)
{
    u32 sum = 0;
    seed = 1;
    while (times--) {
        for (u32 i = 0; i < NODES; i++) {
            nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
            nodes[i].key = draw() & 0xffff;
            nodes[i].mark = i;
        }
        struct node *list = sorted(nodes, NODES);
        for (u32 j = 0; j < 12; j++) {
            u32 key = draw() & 0xffff;
            struct node *p = list;
            while (p && p->key < key)
                p = p->next;
            sum = sum * 31 + (p ? p->mark : 7);
            struct node *turned = 0;
            while (list) {
                p = list->next;
                list->next = turned;
                turned = list;
                list = p;
            }
            list = j & 1 ? turned : sorted(turned, NODES);
        }
    }
    return sum;
}

/* matrix: integer product */
#define SIDE 40
static i32 left[SIDE][SIDE], right[SIDE][SIDE], product[SIDE][SIDE];

static NOINLINE u32 matrix_kernel(u32 times)
{
    u32 sum = 0;
    seed = 2;
    for (u32 i = 0; i < SIDE; i++)
        for (u32 j = 0; j < SIDE; j++) {
            left[i][j] = (i32)(draw() & 0x3ff) - 512;
            right[i][j] = (i32)(draw() & 0x3ff) - 512;
        }
    while (times--) {
        for (u32 i = 0; i < SIDE; i++)
            for (u32 j = 0; j < SIDE; j++) {
                i32 s = 0;
                for (u32 k = 0; k < SIDE; k++)
                    s += left[i][k] * right[k][j];
                product[i][j] = s;
            }
        left[times % SIDE][3] ^= product[5][times % SIDE] & 0xff;
        sum = sum * 31 + (u32)product[times % SIDE][7];
    }
    return sum;
}

/* state machine: which of the comma-separated words are numbers, and of what kind */
#define TEXT 4096
static u8 text[TEXT];

enum { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPSIGN, EXPDIGITS, BAD, STATES };

static NOINLINE u32 step(u32 state, u8 c)
{
    u32 digit = (u8)(c - '0') < 10;
    switch (state) {
    case START:     return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : BAD;
    case SIGN:      return digit ? INTEGER : c == '.' ? POINT : BAD;
    case INTEGER:   return digit ? INTEGER : c == '.' ? POINT : c == 'e' ? EXPONENT : BAD;
    case POINT:
    case FRACTION:  return digit ? FRACTION : c == 'e' ? EXPONENT : BAD;
    case EXPONENT:  return digit ? EXPDIGITS : c == '+' || c == '-' ? EXPSIGN : BAD;
    case EXPSIGN:
    case EXPDIGITS: return digit ? EXPDIGITS : BAD;
    default:        return BAD;
    }
}

static NOINLINE u32 state_kernel(u32 times)
{
    static const char words[][12] = {"1207,", "-35,", "+8.25,", ".5e-3,", "7e+22,", "cassowary,", "-.e,", "44.4.4,"};
    u32 count[STATES] = {0}, sum = 0, n = 0;
    seed = 3;
    while (n < TEXT - 16)
        for (const char *w = words[draw() & 7]; *w; w++)
            text[n++] = (u8)*w;
    while (times--) {
        u32 state = START;
        for (u32 i = 0; i < n; i++) {
            if (text[i] == ',') {
                count[state]++;
                state = START;
            } else
                state = step(state, text[i]);
        }
        text[draw() % n] = (u8)('0' + times % 10);
    }
    for (u32 i = 0; i < STATES; i++)
        sum = sum * 131 + count[i];
    return sum;
}

/* crc: bit by bit, and by table */
static u8 bytes[8192];
static u32 table[256];

static NOINLINE u32 crc_kernel(u32 times)
{
    u32 crc = 0xffffffff;
    seed = 4;
    for (u32 i = 0; i < sizeof bytes; i++)
        bytes[i] = (u8)draw();
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (u32 b = 0; b < 8; b++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[i] = c;
    }
    while (times--) {
        for (u32 i = 0; i < sizeof bytes; i++)
            crc = table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
        for (u32 i = 0; i < sizeof bytes / 4; i++) {
            crc ^= bytes[i];
            for (u32 b = 0; b < 8; b++)
                crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

/* sort: quick, through a comparison that is called by pointer */
#define ITEMS 3000
static u32 items[ITEMS];

typedef i32 (*order)(u32, u32);

static NOINLINE i32 rising(u32 a, u32 b) { return a < b ? -1 : a > b; }
static NOINLINE i32 falling(u32 a, u32 b) { return rising(b, a); }

static NOINLINE void quick(u32 *a, i32 n, order compare)
{
    while (n > 1) {
        u32 pivot = a[n / 2];
        i32 i = 0, j = n - 1;
        while (i <= j) {
            while (compare(a[i], pivot) < 0)
                i++;
            while (compare(a[j], pivot) > 0)
                j--;
            if (i <= j) {
                u32 t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j + 1 < n - i) {
            quick(a, j + 1, compare);
            a += i;
            n -= i;
        } else {
            quick(a + i, n - i, compare);
            n = j + 1;
        }
    }
}

static NOINLINE u32 sort_kernel(u32 times)
{
    static order const orders[] = {rising, falling};
    u32 sum = 0;
    seed = 5;
    while (times--) {
        for (u32 i = 0; i < ITEMS; i++)
            items[i] = draw();
        quick(items, ITEMS, *(order const volatile *)&orders[times & 1]);
        for (u32 i = 0; i < ITEMS; i += 41)
            sum = sum * 31 + items[i];
    }
    return sum;
}

/* string: copy, fold, compare, search */
static u8 copy[2048], pattern[] = "emu kiwi rhea";

static NOINLINE u32 string_length(const u8 *s)
{
    const u8 *p = s;
    while (*p)
        p++;
    return (u32)(p - s);
}

static NOINLINE i32 find(const u8 *in, const u8 *what)
{
    for (u32 i = 0; in[i]; i++) {
        u32 j = 0;
        while (what[j] && in[i + j] == what[j])
            j++;
        if (!what[j])
            return (i32)i;
    }
    return -1;
}

static NOINLINE u32 string_kernel(u32 times)
{
    static u8 source[2048];
    u32 sum = 0;
    seed = 6;
    for (u32 i = 0; i + 1 < sizeof source; i++)
        source[i] = (u8)("emu kiwi rhea ostrich NANDU"[draw() % 27]);
    for (u32 i = 0; pattern[i]; i++)
        source[1900 + i] = pattern[i];
    while (times--) {
        u32 n = string_length(source);
        for (u32 i = 0; i <= n; i++)
            copy[i] = source[i];
        for (u32 i = 0; i < n; i++)
            if (copy[i] >= 'A' && copy[i] <= 'Z')
                copy[i] += 32;
        sum = sum * 31 + (u32)find(copy, pattern) + copy[times % n];
        source[draw() % 1900] = (u8)('a' + times % 26);
    }
    return sum;
}

/* machine: a stack machine's byte code, switched */
static NOINLINE u32 machine_kernel(u32 times)
{
    enum { PUSH, ADD, MUL, XOR, DUP, SWAP, SHIFT, KEEP, TAKE, LOOP };
    static const u8 program[] = {TAKE, PUSH, 7, MUL, PUSH, 9, ADD, DUP, SHIFT, XOR, DUP, PUSH, 3, MUL, SWAP, XOR, KEEP, LOOP};
    u32 stack[16], top = 0, kept = 8;
    const u8 *pc = program;
    for (;;)
        switch (*pc++) {
        case PUSH:  stack[top++] = *pc++; break;
        case ADD:   top--; stack[top - 1] += stack[top]; break;
        case MUL:   top--; stack[top - 1] *= stack[top]; break;
        case XOR:   top--; stack[top - 1] ^= stack[top]; break;
        case DUP:   stack[top] = stack[top - 1]; top++; break;
        case SWAP:  { u32 t = stack[top - 1]; stack[top - 1] = stack[top - 2]; stack[top - 2] = t; break; }
        case SHIFT: stack[top - 1] >>= 3; break;
        case KEEP:  kept = stack[--top]; break;
        case TAKE:  stack[top++] = kept; break;
        default:    if (!--times) return kept; pc = program; break;
        }
}

/* hash: an open table, multiplication, division, half-words */
static u32 slots[4096];
static u16 uses[4096];

static NOINLINE u32 hash_kernel(u32 times)
{
    u32 x = 2463534242u, sum = 0;
    for (u32 i = 0; i < 4096; i++)
        slots[i] = uses[i] = 0;
    while (times--) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        u32 at = x * 2654435761u >> 20;
        u32 tries = 0;
        while (slots[at] && (slots[at] & 0xfff) != (x & 0xfff) && tries++ < 8)
            at = (at + 1) & 4095;
        sum += slots[at];
        slots[at] = x;
        uses[at]++;
        if (!(times & 7))
            sum ^= x % (uses[at] + 3u);
    }
    for (u32 i = 0; i < 4096; i++)
        sum = sum * 31 + uses[i];
    return sum;
}

#ifdef COUNT                                    /* for the shares of the kernels, under -icount shift=0 */
static u32 now(void)
{
#ifdef __riscv
    u32 t;
    asm volatile("rdinstret %0" : "=r"(t));
    return t;
#else
    return 0u - get32(XPS_TIMER + 8);           /* free-running down */
#endif
}
#endif

static u32 total;

static NOINLINE void run(const char *name, u32 (*kernel)(u32), u32 times)
{
#ifdef COUNT
    u32 before = now();
#endif
    u32 result = kernel(times * mix_scale);
    total = (total << 5 | total >> 27) ^ result;
    put_text(name);
    put_text(" ");
    put_hex32(result);
#ifdef COUNT
    put_text(" ");
    put_dec(now() - before);
#endif
    put_text("\n");
}

int main(void)
{
#if defined(COUNT) && defined(XPS_TIMER)
    put32(XPS_TIMER + 4, 0xffffffff);
    put32(XPS_TIMER, 0x20);
    put32(XPS_TIMER, 0x80 | 0x10 | 0x02);
#endif
    put_text("@@START\n");
    run("list", list_kernel, 4);
    run("matrix", matrix_kernel, 13);
    run("state", state_kernel, 80);
    run("crc", crc_kernel, 27);
    run("sort", sort_kernel, 7);
    run("string", string_kernel, 120);
    run("machine", machine_kernel, 20000);
    run("hash", hash_kernel, 40000);
    put_text("@@DONE ");
    put_hex32(total);
    put_text("\n");
    return 0;
}
