/* Code that writes code: a function rewritten and called, with and without the architecture's own fence, a store into the
   page that is running, and data beside code. Every emulator we know is coherent here; so are we. */
#include "guest.h"

#define TIMES 50

#ifdef __riscv
#define FENCE() asm volatile("fence.i" ::: "memory")
#define RETURN_VALUE(n) ((u32)(n) << 20 | 0x513)        /* addi a0, zero, n */
#define RETURN 0x00008067u                              /* ret */
#define DELAY  0x00000013u
#else
#define FENCE() asm volatile("mbar 2" ::: "memory")
#define RETURN_VALUE(n) (0x30600000u | (u32)(n))        /* addik r3, r0, n */
#define RETURN 0xb60f0008u                              /* rtsd r15, 8 */
#define DELAY  0x80000000u
#endif

static u32 code[1024] __attribute__((aligned(4096)));

typedef u32 (*function)(void);

static NOINLINE u32 call(u32 *at)
{
    function volatile f = (function)(uptr)at;
    return f();
}

static NOINLINE u32 rewrite(u32 *at, int fence)
{
    u32 good = 0;
    volatile u32 *p = at;
    for (u32 i = 1; i <= TIMES; i++) {
        p[0] = RETURN_VALUE(i);
        p[1] = RETURN;
        p[2] = DELAY;
        if (fence)
            FENCE();
        good += call(at) == i;
        p[16] = i;                                      /* data in the same page */
        good += call(at) == i;
    }
    return good;
}

/* A loop whose body is patched by the loop itself: the instruction after the store is the new one. */
static NOINLINE u32 own_page(void)
{
    u32 good = 0;
    for (u32 i = 1; i <= TIMES; i++) {
        u32 got;
        u32 insn = RETURN_VALUE(i);
#ifdef __riscv
        asm volatile(
            ".option push\n\t.option norvc\n\t"
            ".balign 4\n\t"
            "la   t0, 1f\n\t"
            "sw   %1, 0(t0)\n\t"
            "fence.i\n\t"
            "1: addi a0, zero, 0\n\t"
            "mv   %0, a0\n\t"
            ".option pop"
            : "=r"(got) : "r"(insn) : "t0", "a0", "memory");
#else
        asm volatile(
            "la   r4, r0, 1f\n\t"
            "swi  %1, r4, 0\n\t"
            "mbar 2\n\t"
            "1: addik r3, r0, 0\n\t"
            "addk %0, r3, r0\n\t"
            : "=r"(got) : "r"(insn) : "r3", "r4", "memory");
#endif
        good += got == i;
    }
    return good;
}

static u32 report(const char *name, u32 good, u32 of)
{
    put_text(name);
    put_dec(good);
    put_text("/");
    put_dec(of);
    put_text("\n");
    return good != of;
}

int main(void)
{
    u32 bad = 0;
    put_text("smc\n");
    bad += report("fenced ", rewrite(code, 1), 2 * TIMES);
    bad += report("unfenced ", rewrite(code + 512, 0), 2 * TIMES);
    bad += report("own page ", own_page(), TIMES);
    finish(bad);
}
